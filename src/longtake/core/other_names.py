"""The names that other tools and older versions have for options and for keys of a training config; errors say those used here."""

from __future__ import annotations

from collections.abc import Collection

NAMES = {
    "prompt": "text positive-prompt text-prompt caption",
    "guidance-scale": "cfg cfg-scale cfg-scale-text guide-scale sample-guide-scale",
    "num-inference-steps": "inference-steps infer-steps sample-steps sampling-steps num-steps",
    "num-frames": "frames frame-num n-frames length video-length num-output-frames",
    "seconds": "duration total-second-length total-video-length video-seconds",
    "endless": "infinite forever",
    "negative-prompt": "negative neg-prompt n-prompt uncond-prompt",
    "script": "story prompts prompt-file prompt-path prompt-travel scenes",
    "image": "init-image input-image start-image first-frame first-image ref-image ref-image-path conditioning-image",
    "last-image": "end-image last-frame",
    "input-video": "input-media input-media-path media-items init-video source-video",
    "skip-initial-inference-steps": "skip-steps skip-initial-steps start-step",
    "control": "track audio-path",
    "control-scale": "track-scale audio-scale audio-cfg",
    "size": "resolution video-size",
    "fps": "frame-rate framerate",
    "model": "model-id model-name model-path ckpt ckpt-dir ckpt-path checkpoint checkpoint-path dit-root base-model",
    "lora": "lora-path lora-weights loras",
    "seed": "base-seed noise-seed rng-seed",
    "stg-mode": "skip-layer-strategy",
    "solver": "sampler sampler-name sample-solver scheduler",
    "shift": "flow-shift sample-shift sigma-shift",
    "sigma-spacing": "grid timestep-spacing",
    "sigmas": "levels custom-sigmas",
    "attention": "attention-mode attention-backend attn",
    "step-cache": "cache teacache teacache-thresh tea-cache tea-cache-l1-thresh first-block-cache",
    "step-cache-calibration": "cache-rule",
    "strategy": "plan method long-video-mode",
    "window": "context-length base-num-frames sliding-window-size window-size latent-window-size",
    "tile": "temporal-tile-size",
    "overlap": "context-overlap overlap-history overlap-frames num-motion-frames temporal-overlap sliding-window-overlap",
    "handoff": "hand",
    "overlap-source": "keep",
    "context-noise": "context addnoise-condition",
    "strength": "denoise denoise-strength temporal-overlap-cond-strength",
    "adain": "adain-factor",
    "ar-step": "lag",
    "causal-block-size": "block block-size num-frame-per-block",
    "min-lag": "least",
    "grow-view": "eager",
    "context-frames": "past",
    "sink-frames": "sinks sink sink-size",
    "image-cond-noise-scale": "cond-noise",
    "dtype": "precision torch-dtype",
    "offload": "block-swap blocks-to-swap cpu-offload offload-model offload-mode low-vram",
    "fp8": "quantize quantization",
    "count": "n num-videos num-videos-per-prompt num-samples batch-count variations",
    "codec": "video-codec vcodec encoder",
    "overwrite": "yes force replace-existing",
    "output": "save-path save-file save-dir outdir output-dir output-path out",
}
TRAINING = {
    "lr": "learning_rate max_lr peak_lr base_lr initial_lr",
    "steps": "max_train_steps max_steps num_steps train_steps num_train_steps total_steps iterations num_iterations iters",
    "warmup": "warmup_steps lr_warmup_steps num_warmup_steps warmup_iters",
    "betas": "adam_betas beta1 beta2 adam_beta1 adam_beta2",
    "weight_decay": "adam_weight_decay wd",
    "optimiser": "optimizer optimizer_type optimizer_name optim",
    "grad_clip": "max_grad_norm clip_grad_norm gradient_clip gradient_clipping gradient_clip_val grad_norm",
    "accumulate": "gradient_accumulation gradient_accumulation_steps accumulate_grad_batches grad_accum_steps",
    "ema": "ema_decay use_ema ema_rate",
    "dtype": "mixed_precision precision torch_dtype weight_dtype",
    "checkpointing": "gradient_checkpointing activation_checkpointing use_gradient_checkpointing",
    "compile": "torch_compile compile_model",
    "shard": "fsdp deepspeed zero_stage sharding_strategy",
    "log_every": "log_steps logging_steps log_interval log_freq",
    "save_every": "checkpointing_steps save_steps save_interval checkpoint_interval save_every_n_steps ckpt_interval",
    "eval_every": "validation_steps eval_steps val_interval eval_interval sample_every validation_interval",
    "keep_checkpoints": "checkpoints_total_limit save_total_limit keep_last",
    "best_metric": "metric_for_best_model monitor",
    "tensorboard": "report_to log_with logger",
    "seed": "random_seed manual_seed",
    "rank": "lora_rank network_dim lora_dim lora_r",
    "alpha": "lora_alpha network_alpha",
    "targets": "target_modules lora_target_modules lora_targets",
    "init": "pretrained_model_name_or_path pretrained_model model model_path base_model ckpt_path pretrained model_id",
    "folder": "dataset dataset_path data_dir data_root train_data_dir instance_data_dir data_path video_folder videos",
    "caption_dropout": "caption_dropout_rate caption_dropout_p cfg_dropout uncond_prob text_dropout prompt_dropout",
    "shift": "flow_shift timestep_shift sigma_shift discrete_flow_shift",
    "frames": "batch_size train_batch_size per_device_train_batch_size micro_batch_size",
    "sizes": "resolution resolutions size",
    "seconds": "duration durations clip_seconds",
    "sigma_distribution": "weighting_scheme timestep_sampling timestep_distribution",
    "eval_prompts": "num_validation_prompts validation_prompts sample_prompts",
    "held_out": "validation_split val_split eval_share validation_share test_size holdout",
    "guidance": "guidance_scale cfg_scale",
    "text": "text_encoder text_encoder_path tokenizer",
    "vae": "vae_path ae autoencoder",
}  # fmt: skip
EMBEDDINGS = "encode_prompt returns embeddings of one length, so no mask is needed: leave it out"
ANSWERS = {  # keyword arguments of diffusers that have no other name here
    "return-dict": "leave it out; result.frames is what diffusers returns in a tuple",
    "latents": "the noise follows from seed, or generator, and from the position of each frame",
    "timesteps": "give sigmas: timesteps divided by 1000",
    "eta": 'leave it out, or use solver="stochastic" for fresh noise in every step',
    "guidance-rescale": "give guidance_scale=longtake.Guidance(scale=5.0, guidance_rescale=0.7)",
    "guidance-scale-2": "both networks of such a model have one guidance_scale here",
    "max-sequence-length": "leave it out; prompts have the length that the model was trained with",
    "prompt-attention-mask": EMBEDDINGS,
    "negative-prompt-attention-mask": EMBEDDINGS,
    "callback-on-step-end-tensor-inputs": "leave it out; the callback always gets latents, window and sigmas",
    "callback": "use callback_on_step_end",
    "callback-steps": "use callback_on_step_end, which is called after every step",
    "attention-kwargs": "leave it out; loras={file: strength} sets the strengths of LoRAs",
    "cross-attention-kwargs": "leave it out; loras={file: strength} sets the strengths of LoRAs",
    "num-images-per-prompt": "use num_videos_per_prompt",
    "conditions": "LTXVideoPipeline takes conditions; other models take image, last_image and video",
    "frame-index": "LTXVideoPipeline takes conditions=[longtake.Condition(image, frame=...)]",
    "image-embeds": "give the image itself",
    "decode-timestep": "leave it out; it belongs to the checkpoint",
    "decode-noise-scale": "leave it out; it belongs to the checkpoint",
    "prompt-2": "a model has one prompt here",
    "clip-skip": "leave it out; it belongs to the checkpoint",
    "output-type": "a stream and a run have frames as uint8; the call of a pipeline takes output_type",
    "callback-on-frames": "a stream yields the frames, and a run takes on_event; the call takes callback_on_frames",
}
HERE = {other: name for name, others in NAMES.items() for other in others.split()}
KEYS_HERE = {other: key for key, others in TRAINING.items() for other in others.split()}


def spelled(flag: str) -> str:
    """Return a flag or a keyword argument in kebab case, without dashes before it."""
    return flag.lstrip("-").partition("=")[0].replace("_", "-").lower()


def name_here(other: str, known: Collection[str]) -> str | None:
    """Return the one of the `known` names, in kebab case, that another tool calls `other`; None if there is none.

    other: a flag or a keyword argument, in any case.
    """
    name = HERE.get(spelled(other))
    return name if name in known else None


def key_here(other: str, known: Collection[str]) -> str | None:
    """Return the one of the `known` keys of a training config that another trainer calls `other`; None if there is none."""
    key = KEYS_HERE.get(other.lower().replace("-", "_"))
    return key if key in known else None
