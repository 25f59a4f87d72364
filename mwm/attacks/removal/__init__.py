"""Attacks by somebody who holds the weights and changes them: this union is their catalogue."""

from __future__ import annotations

from mwm.attacks.removal.adversarial_tuning import AdversarialTuning as AdversarialTuning
from mwm.attacks.removal.anp import AdversarialNeuronPruning as AdversarialNeuronPruning
from mwm.attacks.removal.batchnorm_reestimation import BatchNormReestimation as BatchNormReestimation
from mwm.attacks.removal.fine_pruning import FinePruning as FinePruning
from mwm.attacks.removal.fine_tuning import FineTuning as FineTuning
from mwm.attacks.removal.nad import AttentionDistillation as AttentionDistillation
from mwm.attacks.removal.neural_dehydration import NeuralDehydration as NeuralDehydration
from mwm.attacks.removal.overwriting import Overwriting as Overwriting
from mwm.attacks.removal.pruning import Pruning as Pruning
from mwm.attacks.removal.quantization import Quantization as Quantization
from mwm.attacks.removal.transfer import Transfer as Transfer
from mwm.attacks.removal.weight_noise import WeightNoise as WeightNoise
from mwm.attacks.removal.wrk import Wrk as Wrk

RemovalAttack = (
    FineTuning
    | BatchNormReestimation
    | Pruning
    | FinePruning
    | Quantization
    | WeightNoise
    | AdversarialTuning
    | Overwriting
    | Transfer
    | Wrk
    | AttentionDistillation
    | AdversarialNeuronPruning
    | NeuralDehydration
)
