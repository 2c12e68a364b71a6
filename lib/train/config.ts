import { resolve } from 'node:path';
import { z } from 'zod';
import type { Distillation, LossWeighting } from '../methods';
import type { Arch, HeadKind, Precision } from '../nn';
import type { LearningRateMode } from '../optim';
import {
  ConfigError,
  describeSetting,
  flag,
  integer,
  number,
  oneOf,
  parseSettings,
  readSettingsFile,
  setting,
  show,
  type SettingInfo,
} from './setting';

export { ConfigError, type SettingInfo } from './setting';

// Imports types only from the floors below: the command line's --help must work where the addon does not load.

const imagenetArchs = ['resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnet152'] as const;
const cifarArchs = ['resnet20', 'resnet32', 'resnet44', 'resnet56', 'resnet110'] as const;
const archs = [...imagenetArchs, ...cifarArchs] as const satisfies readonly Arch[];
const precisions = ['fp32', 'bf16', 'fp16'] as const satisfies readonly Precision[];
const recipes = ['cifar', 'mocov1', 'mocov2', 'mocov3', 'simclr', 'normal'] as const;
const optimizers = ['sgd', 'nesterov', 'lars', 'adamw'] as const;
const learningRateModes = ['cos', 'poly', 'htd', 'step'] as const satisfies readonly LearningRateMode[];
const decayed = ['all', 'weights'] as const;
const stems = ['cifar', 'imagenet'] as const;
const methods = ['moco-v2', 'moco-v3', 'simclr', 'supervised'] as const;
const heads = [
  'mocov2_slim',
  'mocov2_switch',
  'mocov3_slim',
  'simclr_slim',
  'supervised',
  'supervised_switch',
] as const satisfies readonly HeadKind[];
const distillations = [
  'similarity',
  'kd-features',
  'mse-features',
  'mse-logits',
  'atkd',
  'dkd',
  'none',
] as const satisfies readonly Distillation[];
const lossWeightSchemes = [0, 1, 2, 3, 5, 6, 7] as const satisfies readonly LossWeighting[];

/**
 * The settings of a run. What is left out takes its default here, or, where the default depends on the pictures or
 * on the recipe, in {@link resolveConfig}.
 */
export const settingsSchema = z.strictObject({
  data: setting(z.string().min(1), {
    option: '--data <dir>',
    help: 'folder of pictures: train/CLASS/* and test/CLASS/*, or plain',
    expects: 'a folder',
    text: 'string',
  }),
  method: setting(
    z.enum(methods).default('moco-v2'),
    oneOf(methods, '--method <name>', 'moco-v2, moco-v3, simclr or, with labels, supervised'),
  ),
  arch: setting(
    z.enum(archs).default('resnet20'),
    oneOf(archs, '--arch <name>', 'network: resnet18/34/50/101/152 or, for small pictures, resnet20/32/44/56/110'),
  ),
  widths: setting(z.array(z.number().gt(0).max(1)).min(1).default([1, 0.75, 0.5, 0.25]), {
    option: '--widths <list>',
    help: 'widths trained together, as shares of the full network',
    expects: 'fractions above 0, the full network 1 among them, such as 1,0.75,0.5,0.25',
    text: 'numbers',
  }),
  epochs: setting(z.int().min(1).default(200), integer(1, '--epochs', 'passes over the pictures')),
  batch: setting(z.int().min(2).optional(), {
    ...integer(2, '--batch', 'pictures per step'),
    default: 'by recipe: 128, 256',
  }),
  slowStart: setting(z.number().min(0).optional(), {
    ...number('an epoch of at least 0', '--slow-start', 'epoch at which the sub-networks join the full network'),
    option: '--slow-start <epoch>',
    default: 'half of the epochs',
  }),
  queue: setting(z.int().min(1).optional(), {
    ...integer(1, '--queue', 'keys kept as negatives (moco-v2)'),
    default: 'by recipe: 4096, 65536',
  }),
  optimizer: setting(
    z.enum(optimizers).default('sgd'),
    oneOf(optimizers, '--optimizer <name>', 'sgd, nesterov (SGD with Nesterov momentum), lars or adamw'),
  ),
  lr: setting(z.number().gt(0).optional(), {
    ...number('a number above 0', '--lr', 'learning rate at the end of warm-up'),
    default: 'sgd by recipe: 0.06, 0.2 * batch / 1024; lars 2.4 * batch / 1024; adamw 0.001',
  }),
  slimLr: setting(z.number().gt(0).optional(), {
    ...number('a number above 0', '--slim-lr', 'what stands in for --lr once the sub-networks have joined'),
    default: 'the same',
  }),
  lrMode: setting(
    z.enum(learningRateModes).default('cos'),
    oneOf(learningRateModes, '--lr-mode <name>', 'decay of the learning rate: cos, poly, htd or step'),
  ),
  milestones: setting(z.array(z.number().gt(0)).optional(), {
    option: '--milestones <list>',
    help: 'epochs at which --lr-mode step multiplies the learning rate by 0.1',
    expects: 'epochs above 0, such as 60,80',
    text: 'numbers',
    default: '60 % and 80 % of the epochs',
  }),
  warmupEpochs: setting(z.number().min(0).optional(), {
    ...number('a number of at least 0', '--warmup-epochs', 'epochs of linear warm-up'),
    default: 'by recipe: 0, 10 (at most a tenth of the epochs)',
  }),
  accumulate: setting(
    z.int().min(1).default(1),
    integer(1, '--accumulate', 'parts that a batch is computed in, one after the other, for less memory'),
  ),
  clipGrad: setting(
    z.number().min(0).default(0),
    number('a number of at least 0', '--clip-grad', 'largest norm of all gradients together, 0: any'),
  ),
  precision: setting(
    z.enum(precisions).default('fp32'),
    oneOf(
      precisions,
      '--precision <name>',
      'fp32, or mixed precision: bf16, or on CUDA fp16 with dynamic loss scaling',
    ),
  ),
  device: setting(
    z
      .string()
      .regex(/^(auto|cpu|cuda(:\d+)?)$/)
      .default('auto'),
    {
      option: '--device <name>',
      help: 'auto, cpu, cuda or cuda:N',
      expects: 'auto, cpu, cuda or cuda:N',
      text: 'string',
      free: true,
    },
  ),
  init: setting(z.string().default(''), {
    option: '--init <file>',
    help: 'start from the weights in this file: a checkpoint, or an imported one',
    expects: 'a file',
    text: 'string',
    default: 'random weights',
    free: true, // a resumed run has weights of its own
  }),
  seed: setting(z.int().min(0).default(0), integer(0, '--seed', 'seed of all random numbers')),
  limit: setting(z.int().min(0).default(0), integer(0, '--limit', 'train on this many of the pictures, 0: on all')),
  evalEvery: setting(z.int().min(0).default(10), {
    ...integer(0, '--eval-every', 'epochs between kNN evaluations of every width, 0: none'),
    free: true,
  }),
  checkpointEvery: setting(z.int().min(1).default(1), {
    ...integer(1, '--checkpoint-every', 'epochs between checkpoints'),
    free: true,
  }),
  keepEvery: setting(z.int().min(0).default(0), {
    ...integer(0, '--keep-every', 'epochs between checkpoints that are kept, for slimclr landscape, 0: none'),
    free: true,
  }),
  logEvery: setting(z.int().min(1).default(10), {
    ...integer(1, '--log-every', 'steps between log lines'),
    free: true,
  }),
  diagnoseEvery: setting(z.int().min(0).default(0), {
    ...integer(0, '--diagnose-every', 'steps between diagnoses of the gradients and embeddings, 0: none'),
    free: true, // what a diagnosis changes, it puts back
  }),
  recipe: setting(z.enum(recipes).optional(), {
    ...oneOf(recipes, '--recipe <name>', 'augmentations, and the defaults said to be "by recipe": cifar, any other'),
    default: 'cifar up to 64 pixels, else by method: mocov2, mocov3, simclr, normal',
  }),
  cropMin: setting(z.number().gt(0).max(1).optional(), {
    ...number('a number above 0 and up to 1', '--crop-min', 'smallest share of a picture that a view shows'),
    default: 'by recipe: 0.2; simclr and normal 0.08',
  }),
  grayP: setting(z.number().min(0).max(1).optional(), {
    ...number('a number from 0 to 1', '--gray-p', 'share of the views without colour'),
    default: 'by recipe: 0.2; normal 0',
  }),
  image: setting(z.int().min(8).max(1024).optional(), {
    ...integer(8, '--image', 'side of the crops in pixels'),
    expects: 'an integer from 8 to 1024',
    default: 'the size of the pictures up to 64, else 224',
  }),
  stem: setting(z.enum(stems).optional(), {
    ...oneOf(stems, '--stem <name>', 'first layers: cifar (3x3) or imagenet (7x7/2 and max-pool)'),
    default: 'cifar up to 64 pixels, else imagenet',
  }),
  baseWidth: setting(z.int().min(1).optional(), {
    ...integer(1, '--base-width', 'channels of the first convolution at width 1'),
    default: '16 for resnet20/32/44/56/110, else 64',
  }),
  head: setting(z.enum(heads).optional(), {
    ...oneOf(heads, '--head <name>', 'projector or classifier: _slim (shared) or _switch (one per width)'),
    default: 'by method: mocov2_slim, mocov3_slim, simclr_slim, supervised_switch',
  }),
  dim: setting(z.int().min(1).optional(), {
    ...integer(1, '--dim', 'size of the embedding'),
    default: 'by method: 128, 256, 128, the number of classes',
  }),
  mlpDim: setting(z.int().min(0).optional(), {
    ...integer(0, '--mlp-dim', 'hidden channels of the heads of moco-v3 and simclr; 0: none'),
    default: 'by method: 0, 4096, 2048, 0',
  }),
  temperature: setting(z.number().min(0.001).optional(), {
    ...number('a number of at least 0.001', '--temperature', 'temperature of the contrastive loss'),
    default: 'by method: 0.2, 1, 0.1, 1',
  }),
  symmetric: setting(
    z.boolean().default(false),
    flag('--symmetric', 'moco-v2: both views are queries and keys, as in moco-v3 always'),
  ),
  batchNormSplits: setting(
    z.int().min(1).default(1),
    integer(1, '--batch-norm-splits', 'moco-v2: groups of a batch that BatchNorm normalises apart, shuffled for keys'),
  ),
  labelSmoothing: setting(
    z.number().min(0).lt(1).default(0.1),
    number(
      'a number from 0 up to below 1',
      '--label-smoothing',
      'supervised: share of a label spread over all classes',
    ),
  ),
  distill: setting(
    z.enum(distillations).default('similarity'),
    oneOf(
      distillations,
      '--distill <kind>',
      'online distillation: similarity, kd-features, mse-features, mse-logits, atkd, dkd or none',
    ),
  ),
  teacherTemperature: setting(z.number().min(0.001).optional(), {
    ...number(
      'a number of at least 0.001',
      '--teacher-temperature',
      "distillation: temperature of the full network's softmax",
    ),
    default: 'by method: 5, 1, 5, 1',
  }),
  studentTemperature: setting(z.number().min(0.001).optional(), {
    ...number(
      'a number of at least 0.001',
      '--student-temperature',
      "distillation: temperature of a sub-network's softmax",
    ),
    default: 'by method: 5, 1, 5, 1',
  }),
  fullDistill: setting(
    z.boolean().default(false),
    flag('--full-distill', 'distillation: all larger widths teach, instead of the full network only'),
  ),
  aux: setting(
    z.number().min(0).max(1).default(0.5),
    number('a number from 0 to 1', '--aux', "share of distillation in a sub-network's loss"),
  ),
  lossWeights: setting(z.literal(lossWeightSchemes).default(5), {
    ...oneOf(lossWeightSchemes, '--loss-weights <scheme>', 'weights of the widths in the loss, schemes 0-3 and 5-7'),
    text: 'number',
  }),
  encoderMomentum: setting(z.number().min(0).lt(1).optional(), {
    ...number('a number from 0 up to below 1', '--encoder-momentum', 'momentum of the key encoder'),
    default: 'moco-v2 by recipe: 0.99, 0.999; moco-v3: 0.99, rising to 1',
  }),
  momentum: setting(
    z.number().min(0).lt(1).default(0.9),
    number('a number from 0 up to below 1', '--momentum', 'momentum of sgd, nesterov and lars'),
  ),
  weightDecay: setting(z.number().min(0).optional(), {
    ...number('a number of at least 0', '--weight-decay', 'weight decay'),
    default: 'sgd by recipe: 0.0005, 0.0001; lars 0.000001; adamw 0.01',
  }),
  weightDecayOf: setting(
    z.enum(decayed).default('all'),
    oneOf(
      decayed,
      '--weight-decay-of <which>',
      'all parameters, or weights without biases and BatchNorm; lars: weights',
    ),
  ),
  threads: setting(z.int().min(0).max(256).default(0), {
    ...integer(0, '--threads', 'processor threads, 0: all cores'),
    expects: 'an integer from 0 to 256',
    free: true,
  }),
  eager: setting(z.boolean().default(false), {
    ...flag('--eager', 'run every step op by op instead of replaying a recording: the same numbers, for debugging'),
    free: true,
  }),
});

/** Settings of a run as a user gives them; everything but `data` may be left out. */
export type Settings = z.input<typeof settingsSchema>;

/** Settings of a run with nothing left open; what `OUT/config.json` holds. */
export type RunConfig = Required<z.output<typeof settingsSchema>>;

export type SettingName = keyof RunConfig;

/** Names of all settings, in the order of the help. */
export const settingNames = Object.keys(settingsSchema.shape) as SettingName[];

/** Option, help and default (in words) of a setting. */
export function settingInfo(name: SettingName): SettingInfo {
  return describeSetting(settingsSchema.shape[name]);
}

/**
 * Checks settings and fills in the defaults that depend on nothing else.
 * @param where named in errors: a file, or "settings"
 * @throws ConfigError naming the setting, what it takes and what it was given
 */
export function checkSettings(raw: unknown, where = 'settings'): z.output<typeof settingsSchema> {
  const settings = parseSettings(settingsSchema, raw, where);
  const widths = [...settings.widths].sort((a, b) => b - a);
  if (widths[0] !== 1 || new Set(widths).size < widths.length) {
    const problem = widths[0] === 1 ? 'holds a width twice' : 'must hold 1, the full network';
    throw new ConfigError(`[config] ${where}: widths ${problem}, received ${show(widths)}`);
  }
  return { ...settings, widths };
}

/**
 * Reads settings from a YAML or JSON file. Names may be written as in the library (`slowStart`) or as on the command
 * line (`slow-start`).
 * @throws ConfigError where the file cannot be read or parsed, or a name or value is wrong
 */
export function readSettings(file: string): Partial<Settings> {
  const settings = readSettingsFile(file);
  checkSettings({ data: '.', ...settings }, file); // here, so that an error names the file
  return settings;
}

interface MethodDefaults extends Pick<RunConfig, 'recipe' | 'dim' | 'mlpDim'> {
  heads: readonly [HeadKind, ...HeadKind[]];
  /** Temperatures of the loss and of distillation. */
  T: number;
  distillT: number;
}

/** What a method is run with where nothing else is said; the heads of each, the usual one first. */
const methodDefaults: Record<RunConfig['method'], MethodDefaults> = {
  'moco-v2': { recipe: 'mocov2', heads: ['mocov2_slim', 'mocov2_switch'], dim: 128, mlpDim: 0, T: 0.2, distillT: 5 },
  'moco-v3': { recipe: 'mocov3', heads: ['mocov3_slim'], dim: 256, mlpDim: 4096, T: 1, distillT: 1 },
  simclr: { recipe: 'simclr', heads: ['simclr_slim'], dim: 128, mlpDim: 2048, T: 0.1, distillT: 5 },
  supervised: { recipe: 'normal', heads: ['supervised_switch', 'supervised'], dim: 1, mlpDim: 0, T: 1, distillT: 1 },
};

/**
 * Settles the defaults that depend on the pictures, the method and the recipe.
 * @param side the longest side of the pictures, in pixels
 * @param classes of the pictures, where they are known already
 * @throws ConfigError where settings are wrong or contradict each other
 */
export function resolveConfig(raw: Settings, side: number, classes?: number): RunConfig {
  const s = checkSettings(raw);
  const small = (s.image ?? side) <= 64;
  const usualOfMethod = methodDefaults[s.method];
  const recipe = s.recipe ?? (small ? 'cifar' : usualOfMethod.recipe);
  const cifar = recipe === 'cifar';
  const isCifarArch = (cifarArchs as readonly string[]).includes(s.arch);
  const batch = s.batch ?? (cifar ? 128 : 256);
  const usual = optimizerDefaults(s.optimizer, cifar, batch);
  const lr = s.lr ?? usual.lr;
  const config: RunConfig = {
    ...s,
    data: resolve(s.data),
    init: s.init && resolve(s.init),
    recipe,
    cropMin: s.cropMin ?? (recipe === 'simclr' || recipe === 'normal' ? 0.08 : 0.2),
    grayP: s.grayP ?? (recipe === 'normal' ? 0 : 0.2),
    batch,
    image: s.image ?? (small ? Math.max(8, side) : 224),
    stem: s.stem ?? (small || isCifarArch ? 'cifar' : 'imagenet'),
    baseWidth: s.baseWidth ?? (isCifarArch ? 16 : 64),
    slowStart: s.slowStart ?? s.epochs / 2,
    queue: s.queue ?? (cifar ? 4096 : 65536),
    lr,
    slimLr: s.slimLr ?? lr,
    milestones: s.milestones ?? (s.lrMode === 'step' ? [0.6 * s.epochs, 0.8 * s.epochs] : []),
    warmupEpochs: s.warmupEpochs ?? (cifar ? 0 : Math.min(10, s.epochs / 10)),
    weightDecay: s.weightDecay ?? usual.weightDecay,
    encoderMomentum: s.encoderMomentum ?? (cifar || s.method === 'moco-v3' ? 0.99 : 0.999),
    head: s.head ?? usualOfMethod.heads[0],
    dim: s.dim ?? (s.method === 'supervised' && classes ? classes : usualOfMethod.dim),
    mlpDim: s.mlpDim ?? usualOfMethod.mlpDim,
    temperature: s.temperature ?? usualOfMethod.T,
    teacherTemperature: s.teacherTemperature ?? usualOfMethod.distillT,
    studentTemperature: s.studentTemperature ?? usualOfMethod.distillT,
  };
  if (config.warmupEpochs >= config.epochs) {
    throw new ConfigError(`[config] warmupEpochs (${config.warmupEpochs}) must be below epochs (${config.epochs})`);
  }
  if (config.milestones.length > 0 && config.lrMode !== 'step') {
    throw new ConfigError(
      `[config] milestones are for lrMode step, received lrMode ${config.lrMode}; give one of both`,
    );
  }
  if (config.batch % config.accumulate !== 0 || config.batch / config.accumulate < 2) {
    throw new ConfigError(
      `[config] accumulate must part the batch of ${config.batch} into equal parts of at least 2 pictures, received ` +
        `${config.accumulate}; change one of both`,
    );
  }
  if (config.stem === 'imagenet' && isCifarArch) {
    throw new ConfigError(
      `[config] ${config.arch} has the cifar stem only; use resnet18 or larger for the imagenet stem`,
    );
  }
  checkMethod(config, classes);
  return config;
}

/** @throws ConfigError where a setting does not go with the method */
function checkMethod(config: RunConfig, classes?: number): void {
  const { method, head, dim, mlpDim, distill, batch, accumulate, batchNormSplits } = config;
  const refuse = (problem: string) => {
    throw new ConfigError(`[config] ${problem}`);
  };
  const { heads: allowed, mlpDim: usualMlpDim } = methodDefaults[method];
  if (!allowed.includes(head)) {
    refuse(`head of method ${method}: expected ${allowed.join(' or ')}, received ${head}`);
  }
  if (mlpDim > 0 !== usualMlpDim > 0) {
    refuse(`mlpDim of method ${method}: expected ${usualMlpDim > 0 ? 'at least 1' : '0'}, received ${mlpDim}`);
  }
  if (method !== 'moco-v2' && (config.symmetric || batchNormSplits > 1)) {
    refuse(`symmetric and batchNormSplits are for method moco-v2, received ${method}; leave them out`);
  }
  if (batch / accumulate < 2 * batchNormSplits) {
    refuse(
      `batchNormSplits must leave at least 2 pictures in each group, received ${batchNormSplits} for ` +
        `${batch / accumulate} pictures; lower it or raise the batch`,
    );
  }
  if (method !== 'supervised') return;
  if (distill === 'kd-features' || distill === 'mse-features') {
    refuse(`distill ${distill} compares embeddings, which method supervised lacks; use similarity`);
  }
  if (classes === undefined) return;
  if (classes < 2) refuse('method supervised needs pictures in class folders, train/CLASS/*, of two classes or more');
  if (dim !== classes) refuse(`dim of method supervised is the number of classes, ${classes}, received ${dim}`);
}

/** The released training's; AdamW's as in PyTorch. */
function optimizerDefaults(
  optimizer: (typeof optimizers)[number],
  cifar: boolean,
  batch: number,
): { lr: number; weightDecay: number } {
  switch (optimizer) {
    case 'sgd':
    case 'nesterov':
      return cifar ? { lr: 0.06, weightDecay: 5e-4 } : { lr: (0.2 * batch) / 1024, weightDecay: 1e-4 };
    case 'lars':
      return { lr: (2.4 * batch) / 1024, weightDecay: 1e-6 };
    case 'adamw':
      return { lr: 1e-3, weightDecay: 0.01 };
  }
}

/** The settings in which a run differs from a checkpoint so that it cannot continue it, each with both values. */
export function differences(ours: RunConfig, theirs: Partial<RunConfig>): string[] {
  return settingNames
    .filter((name) => name !== 'data' && !settingInfo(name).free && show(ours[name]) !== show(theirs[name]))
    .map((name) => `${name} (${show(ours[name])} now, ${show(theirs[name])} in the checkpoint)`);
}
