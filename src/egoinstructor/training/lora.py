"""LoRA adapters on the decoder's own linears (extra `lora`): in place while training, merged in the finished model."""

from __future__ import annotations

from torch import nn

from egoinstructor.errors import require_extra

TARGETS = r"decoder\.layers\.\d+\.(attention\.(qkv|output)|mlp\.(up|down))"


def add_lora(model: nn.Module, rank: int, alpha: float) -> None:
    """Put adapters beside the decoder's self-attention and MLP weights, and train them.

    Raises:
        MissingExtraError: peft is not installed.
    """
    require_extra("peft", "lora", "LoRA (lora_rank > 0)")
    from peft import LoraConfig, inject_adapter_in_model

    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS), model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained or "lora_" in name)


def merge_lora(model: nn.Module) -> None:
    """Add the adapters to the weights and take them out: the model has its own modules and names again."""
    require_extra("peft", "lora", "LoRA (lora_rank > 0)")
    from peft.tuners.lora import LoraLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())
