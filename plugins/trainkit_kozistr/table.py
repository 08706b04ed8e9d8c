"""The optimizers of the library as data: names, classes and signatures. Written by a program, not by hand.

``python tests/plugins/kozistr/make_table.py`` writes this file from the signatures of the installed library; run it
again for another version. A test in tests/plugins/kozistr makes the text anew and fails where it is not this one. It is
a text in a module, which Python keeps compiled, so that ``trainkit list`` reads it in half a millisecond; from TOML it
would be ten. ``entries`` makes typed factories of it.

A line that begins at the margin is ``name Class: what it does``; the indented ones hold its settings, each as ``name:
type = default``. In types ``?`` stands for "or unset", ``*2`` for a tuple of two, ``...`` for one of any length, ``|``
between the words of a choice.
"""

VERSION = "4.1.0"
OPTIMIZERS = """\
a2grad A2Grad: Adaptive accelerated stochastic gradient descent with three averaging variants.
    lr: float? = None; beta: float = 10.0; lips: float = 10.0; rho: float = 0.5; variant: uni|inc|exp = 'uni';
    foreach: bool? = None
accsgd AccSGD: Accelerated SGD with coupled short and long steps.
    lr: float = 0.001; kappa: float = 1000.0; xi: float = 10.0; constant: float = 0.7; weight_decay: float = 0.0;
    foreach: bool? = None
adabelief AdaBelief: Adaptive updates based on gradient prediction error.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.0; weight_decouple: bool = True;
    fixed_decay: bool = False; rectify: bool = False; n_sma_threshold: int = 5; degenerated_to_sgd: bool = True;
    ams_bound: bool = False; foreach: bool? = None; eps: float = 1e-16
adabound AdaBound: Adam updates with learning rate bounds that converge to SGD.
    lr: float = 0.001; final_lr: float = 0.1; betas: float*2 = (0.9, 0.999); gamma: float = 0.001; weight_decay:
    float = 0.0; weight_decouple: bool = True; fixed_decay: bool = False; ams_bound: bool = False; eps: float =
    1e-08; foreach: bool? = None
adadelta AdaDelta: Adaptive updates based on accumulated squared gradients and updates.
    lr: float = 1.0; rho: float = 0.9; weight_decay: float = 0.0; weight_decouple: bool = False; fixed_decay: bool =
    False; eps: float = 1e-06; foreach: bool? = None
adafactor AdaFactor: Factored adaptive updates with the BigVision AdaFactor variant.
    lr: float? = 0.001; betas: float*2 = (0.9, 0.999); decay_rate: float = -0.8; weight_decay: float = 0.0;
    weight_decouple: bool = True; fixed_decay: bool = False; clip_threshold: float = 1.0; ams_bound: bool = False;
    scale_parameter: bool = True; relative_step: bool = True; warmup_init: bool = False; eps1: float = 1e-30; eps2:
    float = 0.001; foreach: bool? = None
adagc AdaGC: Adam with adaptive gradient clipping for stable training.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); beta: float = 0.98; lambda_abs: float = 1.0; lambda_rel: float
    = 1.05; warmup_steps: int = 100; weight_decay: float = 0.1; weight_decouple: bool = True; fixed_decay: bool =
    False; eps: float = 1e-08; foreach: bool? = None
adago AdaGO: Orthogonal momentum updates with AdaGrad step size adaptation.
    lr: float = 0.05; momentum: float = 0.95; weight_decay: float = 0.0; weight_decouple: bool = True; gamma: float
    = 10.0; eps: float = 0.0005; v: float = 1e-06; nesterov: bool = False; ns_steps: int = 5; ns_coeffs: str =
    'original'; use_adjusted_lr: bool = False; adamw_lr: float = 0.0003; adamw_betas: float*2 = (0.9, 0.95);
    adamw_wd: float = 0.0; adamw_eps: float = 1e-10; foreach: bool? = None
adahessian AdaHessian: Adaptive second-order updates using Hutchinson Hessian estimates.
    lr: float = 0.1; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.0; weight_decouple: bool = True;
    fixed_decay: bool = False; hessian_power: float = 1.0; update_period: int = 1; num_samples: int = 1;
    hessian_distribution: gaussian|rademacher = 'rademacher'; eps: float = 1e-16; foreach: bool? = None
adai Adai: SGD with gradient dependent momentum and optional stable weight decay.
    lr: float = 0.001; betas: float*2 = (0.1, 0.99); weight_decay: float = 0.0; weight_decouple: bool = False;
    fixed_decay: bool = False; stable_weight_decay: bool = False; dampening: float = 1.0; eps: float = 0.001;
    foreach: bool? = None
adalite Adalite: Adaptive updates with factored moments and tensor wise trust ratios.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.01; weight_decouple: bool = True;
    fixed_decay: bool = False; g_norm_min: float = 1e-10; ratio_min: float = 0.0001; tau: float = 1.0; eps1: float =
    1e-06; eps2: float = 1e-10
adalomo AdaLOMO: Factored adaptive updates fused into backward.
    lr: float = 0.001; weight_decay: float = 0.0; loss_scale: float = 1024.0; clip_threshold: float = 1.0;
    decay_rate: float = -0.8; clip_grad_norm: float? = None; clip_grad_value: float? = None; eps1: float = 1e-30;
    eps2: float = 0.001
adam Adam: The one of torch.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); eps: float = 1e-08; weight_decay: float = 0.0; amsgrad: bool =
    False; foreach: bool? = None; decoupled_weight_decay: bool = False
adamax AdaMax: Adam with an exponentially weighted infinity norm denominator.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.0; weight_decouple: bool = False;
    fixed_decay: bool = False; eps: float = 1e-08; foreach: bool? = None
adamc AdamC: Adam with weight decay scaled by the learning rate in normalization layers.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.0; weight_decouple: bool = True;
    fixed_decay: bool = False; ams_bound: bool = False; eps: float = 1e-08; foreach: bool? = None
adamg AdamG: Parameter free adaptive updates with gradient dependent scaling.
    lr: float = 1.0; betas: float*3 = (0.95, 0.999, 0.95); p: float = 0.2; q: float = 0.24; weight_decay: float =
    0.0; weight_decouple: bool = False; fixed_decay: bool = False; eps: float = 1e-08; foreach: bool? = None
adammini AdamMini: Adam with shared second moment estimates within parameter blocks.
    lr: float = 1.0; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.1; model_sharding: bool = False;
    num_embeds: int = 2048; num_heads: int = 32; num_query_groups: int? = None; eps: float = 1e-08; foreach: bool? =
    None
adamod AdaMod: Adam with bounds from a moving average of adaptive learning rates.
    lr: float = 0.001; betas: float*3 = (0.9, 0.99, 0.9999); weight_decay: float = 0.0; weight_decouple: bool =
    True; fixed_decay: bool = False; eps: float = 1e-08; foreach: bool? = None
adamp AdamP: Adam with projected updates for scale invariant weights.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.0; weight_decouple: bool = True;
    fixed_decay: bool = False; delta: float = 0.1; wd_ratio: float = 0.1; nesterov: bool = False; eps: float =
    1e-08; foreach: bool? = False
adams AdamS: Adam with stable weight decay.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.0001; weight_decouple: bool = True;
    fixed_decay: bool = False; ams_bound: bool = False; eps: float = 1e-08; foreach: bool? = None
adamuon AdaMuon: Adaptive momentum updates with Newton-Schulz matrix orthogonalization.
    lr: float = 0.02; betas: float*2 = (0.9, 0.95); weight_decay: float = 0.0; weight_decouple: bool = True;
    ns_steps: int = 5; ns_coeffs: str = 'original'; use_adjusted_lr: bool = True; adamw_lr: float = 0.0003;
    adamw_betas: float*2 = (0.9, 0.999); adamw_wd: float = 0.0; eps: float = 1e-10; foreach: bool? = False
adamw AdamW: The one of torch.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); eps: float = 1e-08; weight_decay: float = 0.01; amsgrad: bool
    = False; foreach: bool? = None
adamwsn AdamWSN: AdamW with subset norm and subspace momentum scaling.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.0; weight_decouple: bool = True;
    fixed_decay: bool = False; subset_size: int = -1; eps: float = 1e-08; foreach: bool? = None
adan Adan: Adaptive updates with gradient difference momentum.
    lr: float = 0.001; betas: float*3 = (0.98, 0.92, 0.99); weight_decay: float = 0.0; weight_decouple: bool =
    False; max_grad_norm: float = 0.0; foreach: bool? = None; eps: float = 1e-08
adanorm AdaNorm: Adam with adaptive gradient norm correction.
    lr: float = 0.001; betas: float*2 = (0.9, 0.99); r: float = 0.95; weight_decay: float = 0.0; weight_decouple:
    bool = True; fixed_decay: bool = False; ams_bound: bool = False; eps: float = 1e-08; foreach: bool? = None
adapnm AdaPNM: Adam with positive negative momentum.
    lr: float = 0.001; betas: float*3 = (0.9, 0.999, 1.0); weight_decay: float = 0.0; weight_decouple: bool = True;
    fixed_decay: bool = False; ams_bound: bool = True; eps: float = 1e-08; foreach: bool? = None
adashift AdaShift: Adaptive updates with temporally decorrelated gradient moments.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); keep_num: int = 10; eps: float = 1e-10; foreach: bool? = None
adasmooth AdaSmooth: Adaptive updates with effective ratio smoothing.
    lr: float = 0.001; betas: float*2 = (0.5, 0.99); weight_decay: float = 0.0; weight_decouple: bool = False;
    fixed_decay: bool = False; eps: float = 1e-06; foreach: bool? = None
adatam AdaTAM: Adam with gradient momentum alignment scaling.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); decay_rate: float = 0.9; weight_decay: float = 0.0;
    weight_decouple: bool = True; fixed_decay: bool = False; eps: float = 1e-08; foreach: bool? = None
ademamix AdEMAMix: Adam with a mixture of fast and slow gradient momentum.
    lr: float = 0.001; betas: float*3 = (0.9, 0.999, 0.9999); weight_decay: float = 0.0; weight_decouple: bool =
    False; fixed_decay: bool = False; alpha: float = 5.0; t_alpha_beta3: float? = None; eps: float = 1e-08; foreach:
    bool? = None
adopt ADOPT: Adaptive updates using the previous second moment and gradient clipping.
    lr: float = 0.001; betas: float*2 = (0.9, 0.9999); weight_decay: float = 0.0; weight_decouple: bool = False;
    fixed_decay: bool = False; foreach: bool? = None; eps: float = 1e-06
aggmo AggMo: SGD with aggregated momentum buffers at multiple decay rates.
    lr: float = 0.001; betas: float*3 = (0.0, 0.9, 0.99); weight_decay: float = 0.0; weight_decouple: bool = False;
    fixed_decay: bool = False; foreach: bool? = None
aida Aida: Adaptive updates using alternating gradient and momentum projections.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); k: int = 2; xi: float = 1e-20; weight_decay: float = 0.0;
    weight_decouple: bool = False; fixed_decay: bool = False; rectify: bool = False; n_sma_threshold: int = 5;
    degenerated_to_sgd: bool = True; ams_bound: bool = False; eps: float = 1e-08; foreach: bool? = None
alice Alice: Adaptive subspace updates with full rank gradient compensation.
    lr: float = 0.02; betas: float*3 = (0.9, 0.9, 0.999); alpha: float = 0.3; alpha_c: float = 0.4; update_interval:
    int = 200; rank: int = 256; gamma: float = 1.01; leading_basis: int = 40; weight_decay: float = 0.0;
    weight_decouple: bool = True; fixed_decay: bool = False; eps: float = 1e-08
alig AliG: Gradient steps scaled by loss with an optional learning rate cap.
    max_lr: float? = None; momentum: float = 0.0; adjusted_momentum: bool = False; foreach: bool? = None
amos Amos: Adaptive updates with weight decay toward a target parameter scale.
    lr: float = 0.001; beta: float = 0.999; momentum: float = 0.0; extra_l2: float = 0.0; c_coef: float = 0.25;
    d_coef: float = 0.25; foreach: bool? = None; eps: float = 1e-18
ano Ano: Ano optimizer with adaptive momentum and sign based updates.
    lr: float = 0.0001; betas: float*2 = (0.92, 0.99); weight_decay: float = 0.0; weight_decouple: bool = True;
    fixed_decay: bool = False; logarithmic_schedule: bool = False; eps: float = 1e-08; foreach: bool? = None
apollo APOLLO: AdamW with low rank gradient projection and norm based update scaling.
    lr: float = 0.01; betas: float*2 = (0.9, 0.999); scale_type: channel|tensor = 'tensor'; weight_decay: float =
    0.0; weight_decouple: bool = True; fixed_decay: bool = False; correct_bias: bool = True; eps: float = 1e-06;
    foreach: bool? = None
apollodqn ApolloDQN: Adaptive updates with a diagonal quasi-Newton preconditioner.
    lr: float = 0.01; init_lr: float? = 1e-05; beta: float = 0.9; rebound: str = 'constant'; weight_decay: float =
    0.0; weight_decay_type: str = 'l2'; warmup_steps: int = 500; eps: float = 0.0001; foreach: bool? = None
asgd ASGD: Adaptive SGD with estimation of the local smoothness (curvature).
    lr: float = 0.01; amplifier: float = 0.02; weight_decay: float = 0.0; weight_decouple: bool = True; fixed_decay:
    bool = False; theta: float = 1.0; dampening: float = 1.0; eps: float = 1e-05; foreach: bool? = None
avagrad AvaGrad: Adaptive updates with a lagged second moment preconditioner.
    lr: float = 0.1; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.0; weight_decouple: bool = True;
    fixed_decay: bool = False; eps: float = 0.1; foreach: bool? = None
bcos BCOS: Stochastic approximation with block coordinate optimal step sizes.
    lr: float = 0.001; beta: float = 0.9; beta2: float? = None; mode: g|m|c = 'c'; simple_cond: bool = False;
    weight_decay: float = 0.1; weight_decouple: bool = True; eps: float = 1e-06; foreach: bool? = None
bsam BSAM: Bayesian sharpness-aware minimization with noisy parameter perturbations.
    num_data: int; lr: float = 0.5; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.0001; rho: float = 0.05;
    adaptive: bool = False; damping: float = 0.1; foreach: bool? = None
came CAME: Factored adaptive updates with confidence weighted momentum.
    lr: float = 0.0002; betas: float*3 = (0.9, 0.999, 0.9999); weight_decay: float = 0.0; weight_decouple: bool =
    True; fixed_decay: bool = False; clip_threshold: float = 1.0; ams_bound: bool = False; eps1: float = 1e-30;
    eps2: float = 1e-16; foreach: bool? = None
conda Conda: Adam with gradient projection in a basis derived from momentum.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.0; update_proj_gap: int = 2000; scale:
    float = 1.0; projection_type: std|reverse_std|right|left|full|random = 'std'; eps: float = 1e-08; foreach: bool?
    = None
dadaptadagrad DAdaptAdaGrad: AdaGrad with D-Adaptation.
    lr: float = 1.0; momentum: float = 0.0; d0: float = 1e-06; growth_rate: float = inf; weight_decay: float = 0.0;
    weight_decouple: bool = False; fixed_decay: bool = False; eps: float = 0.0; foreach: bool? = None
dadaptadam DAdaptAdam: Adam with D-Adaptation V3.
    lr: float = 1.0; betas: float*2 = (0.9, 0.999); d0: float = 1e-06; growth_rate: float = inf; weight_decay: float
    = 0.0; weight_decouple: bool = False; fixed_decay: bool = False; bias_correction: bool = False; eps: float =
    1e-08; foreach: bool? = None
dadaptadan DAdaptAdan: Adan with D-Adaptation.
    lr: float = 1.0; betas: float*3 = (0.98, 0.92, 0.99); weight_decay: float = 0.0; weight_decouple: bool = False;
    d0: float = 1e-06; growth_rate: float = inf; eps: float = 1e-08; foreach: bool? = None
dadaptlion DAdaptLion: Lion with D-Adaptation V3.
    lr: float = 1.0; betas: float*2 = (0.9, 0.999); d0: float = 1e-06; weight_decay: float = 0.0; weight_decouple:
    bool = False; fixed_decay: bool = False; foreach: bool? = None
dadaptsgd DAdaptSGD: SGD with D-Adaptation V3.
    lr: float = 1.0; momentum: float = 0.9; d0: float = 1e-06; growth_rate: float = inf; weight_decay: float = 0.0;
    weight_decouple: bool = False; fixed_decay: bool = False; foreach: bool? = None
dash DASH: Accelerated Shampoo with batched blocks and Newton-Denman-Beavers inverse roots.
    lr: float = 0.001; betas: float*2 = (0.9, 0.95); grafting_beta: float? = None; weight_decay: float = 0.0;
    block_size: int = 1024; precondition_frequency: int = 10; start_preconditioning_step: int = 1;
    inverse_root_method: newton_db|eigh = 'newton_db'; matrix_scaling: power|frobenius = 'power'; newton_steps: int
    = 10; power_iteration_steps: int = 10; power_iteration_vectors: int = 16; momentum: float = 0.0; nesterov: bool
    = True; correct_bias: bool = True; eps: float = 1e-08; matrix_eps: float = 1e-10
demo DeMo: SGD with compressed distributed momentum exchange.
    lr: float = 0.001; compression_decay: float = 0.999; compression_top_k: int = 32; compression_chunk: int = 64;
    weight_decay: float = 0.0; foreach: bool? = None
diffgrad DiffGrad: Adam updates scaled by changes between consecutive gradients.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.0; weight_decouple: bool = True;
    fixed_decay: bool = False; rectify: bool = False; n_sma_threshold: int = 5; degenerated_to_sgd: bool = True;
    ams_bound: bool = False; eps: float = 1e-08; foreach: bool? = None
distributedmuon DistributedMuon: Distributed momentum updates with Newton-Schulz matrix orthogonalization.
    lr: float = 0.02; momentum: float = 0.95; weight_decay: float = 0.0; weight_decouple: bool = True; nesterov:
    bool = True; ns_steps: int = 5; ns_coeffs: str = 'original'; use_adjusted_lr: bool = False; adamw_lr: float =
    0.0003; adamw_betas: float*2 = (0.9, 0.95); adamw_wd: float = 0.0; adamw_eps: float = 1e-10; foreach: bool? =
    None
dualadam DualAdam: Adam with a decaying inverse Adam update contribution.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); switch_rate: float = 0.01; weight_decay: float = 0.0;
    weight_decouple: bool = False; fixed_decay: bool = False; eps: float = 1e-08; foreach: bool? = None
emofact EmoFact: Factored adaptive updates with EmoNavi loss driven scaling.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); use_shadow: bool = False; shadow_weight: float = 0.05;
    weight_decay: float = 0.01; weight_decouple: bool = True; fixed_decay: bool = False; eps: float = 1e-08;
    foreach: bool? = None
emolynx EmoLynx: Sign based momentum updates with EmoNavi loss driven scaling.
    lr: float = 0.001; betas: float*2 = (0.9, 0.99); use_shadow: bool = False; shadow_weight: float = 0.05;
    weight_decay: float = 0.01; weight_decouple: bool = True; fixed_decay: bool = False; eps: float = 1e-08;
    foreach: bool? = None
emonavi EmoNavi: Adam style updates with loss driven momentum scaling and optional shadow weights.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); use_shadow: bool = False; shadow_weight: float = 0.05;
    weight_decay: float = 0.01; weight_decouple: bool = True; fixed_decay: bool = False; eps: float = 1e-08;
    foreach: bool? = None
exadam EXAdam: Adam with adaptive cross moment corrections.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.0; weight_decouple: bool = True;
    fixed_decay: bool = False; eps: float = 1e-08; foreach: bool? = False
fadam FAdam: Natural gradient Adam using diagonal empirical Fisher information.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.1; clip: float = 1.0; p: float = 0.5;
    eps: float = 1e-08; eps_2: float = 0.01; foreach: bool? = None
fira Fira: AdamW with low rank updates and full rank gradient compensation.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.0; eps: float = 1e-06; foreach: bool?
    = None
flashadamw FlashAdamW: AdamW with grouped 8-bit optimizer states and optional master weight error correction.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.01; decouple_lr: bool = False;
    quantize: bool = True; compress_state_dict: bool = True; master_weight_bits: int? = None; check_numerics: bool =
    False; eps: float = 1e-08; foreach: bool? = None
focus FOCUS: Sign based updates with attraction toward the running parameter average.
    lr: float = 0.01; betas: float*2 = (0.9, 0.999); gamma: float = 0.1; weight_decay: float = 0.0; foreach: bool? =
    None
fromage Fromage: Gradient descent scaled by the ratio of parameter and gradient norms.
    lr: float = 0.01; p_bound: float? = None; foreach: bool? = None
ftrl FTRL: Follow the Regularized Leader updates with L1 and L2 penalties.
    lr: float = 0.001; lr_power: float = -0.5; beta: float = 0.0; lambda_1: float = 0.0; lambda_2: float = 0.0;
    foreach: bool? = None
galore GaLore: AdamW with low rank gradient projection.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.0; eps: float = 1e-06; foreach: bool?
    = None
grams Grams: Adaptive updates combining gradient signs with momentum magnitudes.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.0; weight_decouple: bool = True; eps:
    float = 1e-06; foreach: bool? = False
gravity Gravity: Kinematic optimization with a gradient dependent velocity update.
    lr: float = 0.01; alpha: float = 0.01; beta: float = 0.9; foreach: bool? = None
grokfastadamw GrokFastAdamW: AdamW with amplification of slow gradient components.
    lr: float = 0.0001; betas: float*2 = (0.9, 0.99); grokfast: bool = True; grokfast_alpha: float = 0.98;
    grokfast_lamb: float = 2.0; grokfast_after_step: int = 0; weight_decay: float = 0.0; weight_decouple: bool =
    True; fixed_decay: bool = False; normalize_lr: bool = True; eps: float = 1e-08; foreach: bool? = None
kate Kate: Scale invariant AdaGrad-style updates without square root normalization.
    lr: float = 0.001; delta: float = 0.0; weight_decay: float = 0.0; weight_decouple: bool = True; fixed_decay:
    bool = False; eps: float = 1e-08; foreach: bool? = None
kron Kron: Preconditioned SGD with Kronecker factored preconditioners.
    lr: float = 0.001; momentum: float = 0.9; weight_decay: float = 0.0; weight_decouple: bool = True;
    max_size_triangular: int = 8192; min_ndim_triangular: int = 2; memory_save_mode:
    one_diag|smart_one_diag|all_diag? = None; momentum_into_precondition_update: bool = True; balance_prob: float =
    0.01
lamb Lamb: Adam updates with a trust ratio for each parameter tensor.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.0; weight_decouple: bool = True;
    fixed_decay: bool = False; rectify: bool = False; degenerated_to_sgd: bool = False; n_sma_threshold: int = 5;
    grad_averaging: bool = True; max_grad_norm: float = 1.0; adam: bool = False; pre_norm: bool = False; eps: float
    = 1e-06; foreach: bool? = None
laprop LaProp: Adaptive updates with momentum of preconditioned gradients.
    lr: float = 0.0004; betas: float*2 = (0.9, 0.999); centered: bool = False; steps_before_using_centered: int =
    10; weight_decay: float = 0.0; weight_decouple: bool = True; fixed_decay: bool = False; ams_bound: bool = False;
    eps: float = 1e-15; foreach: bool? = None
lars LARS: SGD with learning rates scaled by parameter and gradient norms.
    lr: float = 0.001; weight_decay: float = 0.0; momentum: float = 0.9; dampening: float = 0.0; trust_coefficient:
    float = 0.001; nesterov: bool = False; foreach: bool? = None
lbfgs LBFGS: The one of torch.
    lr: float = 1.0; max_iter: int = 20; max_eval: int? = None; tolerance_grad: float = 1e-07; tolerance_change:
    float = 1e-09; history_size: int = 100; line_search_fn: str? = None
lion Lion: Sign based updates from interpolated gradient momentum.
    lr: float = 0.0001; betas: float*2 = (0.9, 0.99); weight_decay: float = 0.0; weight_decouple: bool = True;
    fixed_decay: bool = False; foreach: bool? = None
lomo LOMO: SGD updates fused into backward to reduce optimizer memory.
    lr: float = 0.001; clip_grad_norm: float? = None; clip_grad_value: float? = None
lorarite LoRARite: LoRA factor optimization with matrix preconditioning and basis corrections.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); eps: float = 1e-06; relative_epsilon: bool = False;
    clip_unmagnified_grad: float = 1.0; update_capping: float = 0.0; update_skipping: float = 1.0; weight_decay:
    float = 0.0; apply_escape: bool = False; lora_l_dim: int = 0; lora_r_dim: int = -1; maybe_inf_to_nan: bool =
    True; balance_param: bool = False
madgrad MADGRAD: Momentumized adaptive dual averaged gradient descent.
    lr: float = 0.001; momentum: float = 0.9; weight_decay: float = 0.0; weight_decouple: bool = False; eps: float =
    1e-06; foreach: bool? = None
magma Magma: Momentum aligned gradient masking wrapper for PyTorch optimizers.
    mask_prob: float = 0.5; tau: float = 2.0; momentum_beta: float = 0.9; alignment_ema: float = 0.9; moment_key:
    str? = 'auto'; foreach: bool? = None
mars MARS: Adaptive updates with variance reduced gradient corrections.
    lr: float = 0.003; betas: float*2 = (0.95, 0.99); gamma: float = 0.025; mars_type: adamw|lion|shampoo = 'adamw';
    optimize_1d: bool = False; lr_1d: float = 0.003; betas_1d: float*2 = (0.9, 0.95); weight_decay: float = 0.0;
    weight_decay_1d: float = 0.1; weight_decouple: bool = True; fixed_decay: bool = False; ams_bound: bool = False;
    cautious: bool = False; eps: float = 1e-08; foreach: bool? = None
msvag MSVAG: Adaptive momentum updates with gradient variance damping.
    lr: float = 0.01; beta: float = 0.9; foreach: bool? = None
muon Muon: Momentum updates with Newton-Schulz matrix orthogonalization.
    lr: float = 0.02; momentum: float = 0.95; weight_decay: float = 0.0; weight_decouple: bool = True; nesterov:
    bool = True; ns_steps: int = 5; ns_coeffs: str = 'original'; use_adjusted_lr: bool = False; adamw_lr: float =
    0.0003; adamw_betas: float*2 = (0.9, 0.95); adamw_wd: float = 0.0; adamw_eps: float = 1e-10; foreach: bool? =
    None; ns_method: newton_schulz|gram_newton_schulz = 'newton_schulz'; ns_reset_steps: int... = (2,)
muonclip MuonClip: Muon with per-head query/key weight clipping from the Kimi K2 report.
    lr: float = 0.02; momentum: float = 0.95; weight_decay: float = 0.0; qk_clip_threshold: float = 100.0;
    qk_clip_alpha: float = 0.5; ns_steps: int = 5; ns_coeffs: str = 'original'; ns_method:
    newton_schulz|gram_newton_schulz = 'newton_schulz'; ns_reset_steps: int... = (2,); adamw_lr: float = 0.0003;
    adamw_betas: float*2 = (0.9, 0.95); adamw_wd: float = 0.0; adamw_eps: float = 1e-10; foreach: bool? = None;
    use_adjusted_lr: bool = True
nadam NAdam: The one of torch.
    lr: float = 0.002; betas: float*2 = (0.9, 0.999); eps: float = 1e-08; weight_decay: float = 0.0; momentum_decay:
    float = 0.004; decoupled_weight_decay: bool = False; foreach: bool? = None
nero Nero: Neuron wise adaptive updates with optional weight constraints.
    lr: float = 0.01; beta: float = 0.999; constraints: bool = True; eps: float = 1e-08; foreach: bool? = None
normuon NorMuon: Muon updates with row wise second moment normalization.
    lr: float = 0.02; momentum: float = 0.95; beta2: float = 0.95; weight_decay: float = 0.0; weight_decouple: bool
    = True; nesterov: bool = True; ns_steps: int = 5; ns_coeffs: str = 'original'; update_scale: str =
    'preserve_norm'; use_adjusted_lr: bool = False; adamw_lr: float = 0.0003; adamw_betas: float*2 = (0.9, 0.95);
    adamw_wd: float = 0.0; adamw_eps: float = 1e-10; eps: float = 1e-10; foreach: bool? = None
novograd NovoGrad: Adaptive updates with layer wise squared gradient norms.
    lr: float = 0.001; betas: float*2 = (0.95, 0.98); weight_decay: float = 0.0; weight_decouple: bool = False;
    fixed_decay: bool = False; grad_averaging: bool = False; eps: float = 1e-08; foreach: bool? = None
padam PAdam: Partially adaptive Adam with a configurable second moment exponent.
    lr: float = 0.1; betas: float*2 = (0.9, 0.999); partial: float = 0.25; weight_decay: float = 0.0;
    weight_decouple: bool = False; fixed_decay: bool = False; eps: float = 1e-08; foreach: bool? = None
pid PID: SGD with proportional, integral, and derivative update terms.
    lr: float = 0.001; momentum: float = 0.0; dampening: float = 0.0; derivative: float = 10.0; integral: float =
    5.0; weight_decay: float = 0.0; weight_decouple: bool = False; fixed_decay: bool = False; foreach: bool? = None
pnm PNM: SGD with alternating positive and negative momentum.
    lr: float = 0.001; betas: float*2 = (0.9, 1.0); weight_decay: float = 0.0; weight_decouple: bool = True;
    fixed_decay: bool = False; eps: float = 1e-08; foreach: bool? = None
prodigy Prodigy: Adam with distance adaptive step sizes.
    lr: float = 1.0; betas: float*2 = (0.9, 0.999); beta3: float? = None; d0: float = 1e-06; d_coef: float = 1.0;
    growth_rate: float = inf; weight_decay: float = 0.0; weight_decouple: bool = True; fixed_decay: bool = False;
    bias_correction: bool = False; safeguard_warmup: bool = False; eps: float? = 1e-08; foreach: bool? = None
qhadam QHAdam: Adam with quasi-hyperbolic moment averaging.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); nus: float*2 = (1.0, 1.0); weight_decay: float = 0.0;
    weight_decouple: bool = False; fixed_decay: bool = False; eps: float = 1e-08; foreach: bool? = None
qhm QHM: SGD with quasi-hyperbolic momentum.
    lr: float = 0.001; momentum: float = 0.0; nu: float = 1.0; weight_decay: float = 0.0; weight_decouple: bool =
    False; fixed_decay: bool = False; foreach: bool? = False
racs RACS: Row and Column Scaled SGD.
    lr: float = 0.001; beta: float = 0.9; alpha: float = 0.05; gamma: float = 1.01; weight_decay: float = 0.0;
    weight_decouple: bool = True; fixed_decay: bool = False; eps: float = 1e-08; foreach: bool? = False
radam RAdam: Rectified Adam.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.0; weight_decouple: bool = True;
    fixed_decay: bool = False; n_sma_threshold: int = 5; degenerated_to_sgd: bool = False; eps: float = 1e-08;
    foreach: bool? = None
ranger Ranger: RAdam with Lookahead and optional gradient centralization.
    lr: float = 0.001; betas: float*2 = (0.95, 0.999); alpha: float = 0.5; k: int = 6; n_sma_threshold: int = 5;
    degenerated_to_sgd: bool = False; weight_decay: float = 0.0; weight_decouple: bool = True; fixed_decay: bool =
    False; use_gc: bool = True; gc_conv_only: bool = False; eps: float = 1e-05; foreach: bool? = None
ranger21 Ranger21: AdamW with positive negative momentum, gradient clipping, and Lookahead.
    num_iterations: int; lr: float = 0.001; beta0: float = 0.9; betas: float*2 = (0.9, 0.999); use_softplus: bool =
    True; beta_softplus: float = 50.0; disable_lr_scheduler: bool = False; num_warm_up_iterations: int? = None;
    num_warm_down_iterations: int? = None; warm_down_min_lr: float = 3e-05; agc_clipping_value: float = 0.01;
    agc_eps: float = 0.001; centralize_gradients: bool = True; normalize_gradients: bool = True;
    lookahead_merge_time: int = 5; lookahead_blending_alpha: float = 0.5; weight_decay: float = 0.0001;
    weight_decouple: bool = True; fixed_decay: bool = False; norm_loss_factor: float = 0.0001; eps: float = 1e-08;
    foreach: bool? = None
rmsprop RMSprop: The one of torch.
    lr: float = 0.01; alpha: float = 0.99; eps: float = 1e-08; weight_decay: float = 0.0; momentum: float = 0.0;
    centered: bool = False; foreach: bool? = None
rose ROSE: Gradient updates scaled by row and column ranges.
    lr: float = 0.001; weight_decay: float = 0.0001; weight_decouple: bool = False; fixed_decay: bool = False;
    centralize: bool = True; stabilize: bool = True; bf16_sr: bool = True; foreach: bool? = False
sara SaRA: AdamW updates on progressively refined masks of small magnitude weights.
    lr: float? = None; betas: float*2 = (0.9, 0.999); threshold: float = 0.001; progressive_iter: int = -1;
    lambda_rank: float = 0.0; weight_decay: float = 0.01; ams_bound: bool = False; eps: float = 1e-08; foreach:
    bool? = None
scalableshampoo ScalableShampoo: Shampoo with blockwise preconditioning and optional gradient grafting.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); moving_average_for_momentum: bool = False; weight_decay: float
    = 0.0; decoupled_weight_decay: bool = False; decoupled_learning_rate: bool = True; inverse_exponent_override:
    int = 0; start_preconditioning_step: int = 25; preconditioning_compute_steps: int = 1000;
    statistics_compute_steps: int = 1; block_size: int = 512; skip_preconditioning_rank_lt: int = 1;
    no_preconditioning_for_layers_with_dim_gt: int = 8192; shape_interpretation: bool = True; graft_type: int = 1;
    pre_conditioner_type: int = 0; nesterov: bool = True; diagonal_eps: float = 1e-10; matrix_eps: float = 1e-06;
    use_svd: bool = False
schedulefreeadamw ScheduleFreeAdamW: Schedule free AdamW with weighted parameter averaging.
    lr: float = 0.0025; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.0; r: float = 0.0; weight_lr_power:
    float = 2.0; warmup_steps: int = 0; decoupling_c: int = 0; ams_bound: bool = False; eps: float = 1e-08; foreach:
    bool? = None
schedulefreeradam ScheduleFreeRAdam: Schedule free RAdam with weighted parameter averaging.
    lr: float = 0.0025; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.0; r: float = 0.0; weight_lr_power:
    float = 2.0; silent_sgd_phase: bool = True; eps: float = 1e-08; foreach: bool? = None
schedulefreesgd ScheduleFreeSGD: Schedule free SGD with weighted parameter averaging.
    lr: float = 1.0; momentum: float = 0.9; weight_decay: float = 0.0; r: float = 0.0; weight_lr_power: float = 2.0;
    warmup_steps: int = 0; eps: float = 1e-08; foreach: bool? = None
scion SCION: Norm constrained updates using linear minimization oracles.
    lr: float = 0.001; momentum: float = 0.1; constraint: bool = False; norm_type: int = 1; scale: float = 1.0;
    weight_decay: float = 0.0; weight_decouple: bool = True; foreach: bool? = None
scionlight SCIONLight: Variant of SCION that stores momentum in gradient buffers.
    lr: float = 0.001; momentum: float = 0.1; constraint: bool = False; norm_type: int = 1; scale: float = 1.0;
    weight_decay: float = 0.0; weight_decouple: bool = True; foreach: bool? = None
sgd SGD: The one of torch.
    lr: float = 0.001; momentum: float = 0.0; dampening: float = 0.0; weight_decay: float = 0.0; nesterov: bool =
    False; foreach: bool? = None
sgdp SGDP: SGD with projected updates for scale invariant weights.
    lr: float = 0.001; momentum: float = 0.0; dampening: float = 0.0; weight_decay: float = 0.0; weight_decouple:
    bool = True; fixed_decay: bool = False; delta: float = 0.1; wd_ratio: float = 0.1; nesterov: bool = False; eps:
    float = 1e-08; foreach: bool? = False
sgdsai SGDSaI: SGD with learning rate scaling from the initial gradient signal-to-noise ratio.
    lr: float = 0.01; momentum: float = 0.9; weight_decay: float = 0.01; weight_decouple: bool = True; eps: float =
    1e-08; foreach: bool? = None
sgdw SGDW: SGD with optional decoupled weight decay.
    lr: float = 0.0001; momentum: float = 0.0; weight_decay: float = 0.0; weight_decouple: bool = True; dampening:
    float = 0.0; nesterov: bool = False; foreach: bool? = None
shampoo Shampoo: Stochastic tensor optimization with matrix preconditioning.
    lr: float = 0.001; momentum: float = 0.0; weight_decay: float = 0.0; weight_decouple: bool = False; fixed_decay:
    bool = False; preconditioning_compute_steps: int = 1; matrix_eps: float = 1e-06
signsgd SignSGD: Sign based SGD with optional momentum.
    lr: float = 0.001; momentum: float = 0.9; weight_decay: float = 0.0; weight_decouple: bool = True; foreach:
    bool? = None
simplifiedademamix SimplifiedAdEMAMix: Adaptive updates that mix the current gradient with gradient momentum.
    lr: float = 0.0001; betas: float*2 = (0.99, 0.95); weight_decay: float = 0.0; weight_decouple: bool = True;
    fixed_decay: bool = False; alpha: float = 0.0; beta1_warmup: int? = None; min_beta1: float = 0.9; eps: float =
    1e-08; foreach: bool? = None
sm3 SM3: Adaptive updates with memory efficient per dimension accumulators.
    lr: float = 0.1; momentum: float = 0.0; beta: float = 0.0; eps: float = 1e-30; foreach: bool? = None
soap SOAP: Adam updates in Shampoo preconditioner eigenbases.
    lr: float = 0.003; betas: float*2 = (0.95, 0.95); shampoo_beta: float? = None; weight_decay: float = 0.01;
    precondition_frequency: int = 10; max_precondition_dim: int = 10000; merge_dims: bool = False; precondition_1d:
    bool = False; correct_bias: bool = True; normalize_gradient: bool = False; data_format:
    channels_first|channels_last = 'channels_first'; eps: float = 1e-08
sophiah SophiaH: Clipped second-order updates using Hutchinson Hessian estimates.
    lr: float = 0.06; betas: float*2 = (0.96, 0.99); weight_decay: float = 0.0; weight_decouple: bool = True;
    fixed_decay: bool = False; p: float = 0.01; update_period: int = 10; num_samples: int = 1; hessian_distribution:
    gaussian|rademacher = 'gaussian'; eps: float = 1e-12; foreach: bool? = None
spam SPAM: Adam with sparse update masks, gradient spike clipping, and momentum resets.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); density: float = 1.0; weight_decay: float = 0.0; warmup_epoch:
    int = 50; threshold: int = 5000; grad_accu_steps: int = 20; update_proj_gap: int = 500; eps: float = 1e-06;
    foreach: bool? = None
spectralsphere SpectralSphere: Matrix updates with a spectral tangent constraint.
    lr: float = 0.0003; momentum: float = 0.9; weight_decay: float = 0.01; weight_decouple: bool = True; nesterov:
    bool = True; power_iteration_steps: int = 10; msign_steps: int = 5; solver_tolerance_f: float = 1e-08;
    solver_max_iterations: int = 100; foreach: bool? = None
splus SPlus: Adaptive updates with matrix whitening and gradient momentum.
    lr: float = 0.1; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.01; weight_decouple: bool = True;
    fixed_decay: bool = False; ema_rate: float = 0.999; inverse_steps: int = 100; nonstandard_constant: float =
    0.001; max_dim: int = 10000; eps: float = 1e-30; foreach: bool? = None
srmm SRMM: Stochastic regularized majorization-minimization with weakly convex and multi convex surrogates.
    lr: float = 0.01; beta: float = 0.5; memory_length: int? = 100; foreach: bool? = None
stableadamw StableAdamW: AdamW with update clipping and optional low precision Kahan summation.
    lr: float = 0.001; betas: float*2 = (0.9, 0.99); kahan_sum: bool = True; weight_decay: float = 0.01;
    weight_decouple: bool = True; eps: float = 1e-08; foreach: bool? = None
stablespam StableSPAM: Adam with adaptive gradient scaling, spike clipping, and momentum resets.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); gamma1: float = 0.7; gamma2: float = 0.9; theta: float =
    0.999; t_max: int? = None; eta_min: float = 0.5; weight_decay: float = 0.0; update_proj_gap: int = 1000; eps:
    float = 1e-08; foreach: bool? = False
swats SWATS: Adaptive updates that switch from Adam to SGD.
    lr: float = 0.001; betas: float*2 = (0.9, 0.999); weight_decay: float = 0.0; weight_decouple: bool = False;
    fixed_decay: bool = False; ams_bound: bool = False; nesterov: bool = False; eps: float = 1e-06; foreach: bool? =
    None
tam TAM: SGD with gradient momentum alignment scaling.
    lr: float = 0.001; momentum: float = 0.9; decay_rate: float = 0.9; weight_decay: float = 0.0; weight_decouple:
    bool = True; fixed_decay: bool = False; eps: float = 1e-08; foreach: bool? = None
tiger Tiger: Sign based updates with a single gradient momentum buffer.
    lr: float = 0.001; beta: float = 0.965; weight_decay: float = 0.01; weight_decouple: bool = True; fixed_decay:
    bool = False; foreach: bool? = None
vsgd VSGD: SGD with variational gradient estimates.
    lr: float = 0.1; ghattg: float = 30.0; ps: float = 1e-08; tau1: float = 0.81; tau2: float = 0.9; weight_decay:
    float = 0.0; weight_decouple: bool = True; eps: float = 1e-08; foreach: bool? = None
yogi Yogi: Adaptive updates with sign controlled second moment accumulation.
    lr: float = 0.01; betas: float*2 = (0.9, 0.999); initial_accumulator: float = 1e-06; weight_decay: float = 0.0;
    weight_decouple: bool = True; fixed_decay: bool = False; eps: float = 0.001; foreach: bool? = None
"""
