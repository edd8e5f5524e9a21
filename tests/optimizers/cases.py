"""Every optimizer and option that is compared with Keras: the name of a case, the class and its arguments."""

from typing import Any

Case = tuple[str, dict[str, Any]]

CASES: dict[str, Case] = {
    "sgd": ("SGD", {"learning_rate": 0.1}),
    "sgd-momentum": ("SGD", {"learning_rate": 0.1, "momentum": 0.9}),
    "sgd-nesterov": ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    "rmsprop": ("RMSprop", {"learning_rate": 0.01}),
    "rmsprop-momentum": ("RMSprop", {"learning_rate": 0.01, "momentum": 0.7, "rho": 0.8}),
    "rmsprop-centered": ("RMSprop", {"learning_rate": 0.01, "centered": True, "momentum": 0.5}),
    "adam": ("Adam", {"learning_rate": 0.05}),
    "adam-amsgrad": ("Adam", {"learning_rate": 0.05, "amsgrad": True, "beta_2": 0.5, "epsilon": 1e-3}),
    "adam-decay": ("Adam", {"learning_rate": 0.05, "weight_decay": 0.1}),
    "adamw": ("AdamW", {"learning_rate": 0.05}),
    "adadelta": ("Adadelta", {"learning_rate": 1.0}),
    "adagrad": ("Adagrad", {"learning_rate": 0.1}),
    "adamax": ("Adamax", {"learning_rate": 0.05}),
    "adafactor": ("Adafactor", {"learning_rate": 0.05}),
    "adafactor-threshold": ("Adafactor", {"learning_rate": 0.5, "clip_threshold": 0.5, "relative_step": False}),
    "nadam": ("Nadam", {"learning_rate": 0.05}),
    "ftrl": ("Ftrl", {"learning_rate": 0.1}),
    "ftrl-regularized": (
        "Ftrl",
        {
            "learning_rate": 0.1,
            "learning_rate_power": -0.7,
            "l1_regularization_strength": 0.3,
            "l2_regularization_strength": 0.02,
            "l2_shrinkage_regularization_strength": 0.01,
            "beta": 0.1,
        },
    ),
    "lion": ("Lion", {"learning_rate": 0.01, "weight_decay": 0.05}),
    "lamb": ("Lamb", {"learning_rate": 0.05, "weight_decay": 0.01}),
    "muon": ("Muon", {"learning_rate": 0.05}),
    "muon-plain": ("Muon", {"learning_rate": 0.05, "nesterov": False, "rms_rate": None, "adam_lr_ratio": 0.5}),
    "schedule_free_adamw": ("ScheduleFreeAdamW", {"learning_rate": 0.05, "warmup_steps": 4}),
    "clipnorm": ("SGD", {"learning_rate": 0.1, "clipnorm": 0.8}),
    "clipvalue": ("SGD", {"learning_rate": 0.1, "clipvalue": 0.3}),
    "global_clipnorm": ("SGD", {"learning_rate": 0.1, "global_clipnorm": 0.8}),
    "ema": ("SGD", {"learning_rate": 0.1, "use_ema": True, "ema_momentum": 0.8}),
    "ema-overwrite": ("Adam", {"use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": 3}),
    "accumulation": ("Adam", {"learning_rate": 0.05, "gradient_accumulation_steps": 3}),
    "accumulation-clip-decay": (
        "SGD",
        {
            "learning_rate": 0.1,
            "momentum": 0.5,
            "gradient_accumulation_steps": 2,
            "clipnorm": 0.5,
            "weight_decay": 0.1,
        },
    ),
    "loss_scale": ("SGD", {"learning_rate": 0.1, "loss_scale_factor": 16.0}),
}
