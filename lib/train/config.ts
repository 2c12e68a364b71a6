import { readFileSync } from 'node:fs';
import { extname, resolve } from 'node:path';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import type { LossWeighting } from '../methods';
import type { Arch } from '../nn';
import { didYouMean } from './suggest';

// Imports types only from the floors below: the command line's --help must work where the addon does not load.

/** A setting that is misspelt, missing or out of its range: wrong usage, told apart from a run that failed. */
export class ConfigError extends Error {
  override name = 'ConfigError';
}

/** What a setting is called on the command line and how it is explained; kept beside its schema. */
export interface SettingInfo {
  /** The option as commander writes it: `--epochs <n>`. */
  option: string;
  help: string;
  /** The values it takes, for errors: "an integer of at least 1". */
  expects: string;
  /** How its text is read on the command line. */
  text: 'string' | 'number' | 'numbers';
  /** The default in words; in the table below only where it depends on other settings. */
  default?: string;
  /** True where a resumed run may differ in it: it does not change what is computed. */
  free?: boolean;
}

const imagenetArchs = ['resnet18', 'resnet34', 'resnet50', 'resnet101', 'resnet152'] as const;
const cifarArchs = ['resnet20', 'resnet32', 'resnet44', 'resnet56', 'resnet110'] as const;
const archs = [...imagenetArchs, ...cifarArchs] as const satisfies readonly Arch[];
const precisions = ['fp32', 'bf16'] as const;
const recipes = ['cifar', 'mocov2'] as const;
const stems = ['cifar', 'imagenet'] as const;
const heads = ['mocov2_slim', 'mocov2_switch'] as const;
const distillations = ['similarity', 'none'] as const;
const lossWeightSchemes = [0, 1, 2, 3, 5, 6, 7] as const satisfies readonly LossWeighting[];

function setting<T extends z.ZodType>(schema: T, info: SettingInfo): T {
  return schema.meta({ ...info });
}

function integer(min: number, option: string, help: string): SettingInfo {
  return { option: `${option} <n>`, help, expects: `an integer of at least ${min}`, text: 'number' };
}

function number(expects: string, option: string, help: string): SettingInfo {
  return { option: `${option} <x>`, help, expects, text: 'number' };
}

function oneOf(values: readonly unknown[], option: string, help: string): SettingInfo {
  return { option, help, expects: `one of ${values.join(', ')}`, text: 'string' };
}

/**
 * The settings of a run. What is left out takes its default here, or, where the default depends on the pictures or
 * on the recipe (method.md, "Optimisation" and "Augmentations"), in {@link resolveConfig}.
 */
export const settingsSchema = z.strictObject({
  data: setting(z.string().min(1), {
    option: '--data <dir>',
    help: 'folder of pictures: train/CLASS/* and test/CLASS/*, or plain',
    expects: 'a folder',
    text: 'string',
  }),
  method: setting(z.enum(['moco-v2']).default('moco-v2'), oneOf(['moco-v2'], '--method <name>', 'pre-training method')),
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
    ...integer(1, '--queue', 'keys kept as negatives'),
    default: 'by recipe: 4096, 65536',
  }),
  lr: setting(z.number().gt(0).optional(), {
    ...number('a number above 0', '--lr', 'peak learning rate of SGD; cosine decay'),
    default: 'by recipe: 0.06, 0.2 * batch / 1024',
  }),
  warmupEpochs: setting(z.number().min(0).optional(), {
    ...number('a number of at least 0', '--warmup-epochs', 'epochs of linear warm-up'),
    default: 'by recipe: 0, 10 (at most a tenth of the epochs)',
  }),
  precision: setting(
    z.enum(precisions).default('fp32'),
    oneOf(precisions, '--precision <name>', 'fp32, or bf16 mixed precision'),
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
  logEvery: setting(z.int().min(1).default(10), {
    ...integer(1, '--log-every', 'steps between log lines'),
    free: true,
  }),
  recipe: setting(z.enum(recipes).optional(), {
    ...oneOf(recipes, '--recipe <name>', 'augmentations, and the defaults said to be "by recipe": cifar, mocov2'),
    default: 'cifar up to 64 pixels, else mocov2',
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
  head: setting(
    z.enum(heads).default('mocov2_slim'),
    oneOf(heads, '--head <name>', 'projector: mocov2_slim (shared) or mocov2_switch (one per width)'),
  ),
  dim: setting(z.int().min(1).default(128), integer(1, '--dim', 'size of the embedding')),
  temperature: setting(
    z.number().gt(0).default(0.2),
    number('a number above 0', '--temperature', 'temperature of InfoNCE'),
  ),
  distill: setting(
    z.enum(distillations).default('similarity'),
    oneOf(distillations, '--distill <kind>', 'online distillation: similarity or none'),
  ),
  teacherTemperature: setting(
    z.number().gt(0).default(5),
    number('a number above 0', '--teacher-temperature', "distillation: temperature of the full network's similarities"),
  ),
  studentTemperature: setting(
    z.number().gt(0).default(5),
    number('a number above 0', '--student-temperature', "distillation: temperature of a sub-network's similarities"),
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
    default: 'by recipe: 0.99, 0.999',
  }),
  momentum: setting(
    z.number().min(0).lt(1).default(0.9),
    number('a number from 0 up to below 1', '--momentum', 'momentum of SGD'),
  ),
  weightDecay: setting(z.number().min(0).optional(), {
    ...number('a number of at least 0', '--weight-decay', 'weight decay, of every parameter'),
    default: 'by recipe: 0.0005, 0.0001',
  }),
  threads: setting(z.int().min(0).default(0), {
    ...integer(0, '--threads', 'processor threads, 0: all cores'),
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
  const schema = settingsSchema.shape[name];
  const info = schema.meta() as unknown as SettingInfo;
  const standard = schema.safeParse(undefined);
  return { ...info, default: info.default ?? (standard.success ? String(standard.data) : undefined) };
}

/**
 * Checks settings and fills in the defaults that depend on nothing else.
 * @param where named in errors: a file, or "settings"
 * @throws ConfigError naming the setting, what it takes and what it was given
 */
export function checkSettings(raw: unknown, where = 'settings'): z.output<typeof settingsSchema> {
  if (raw === null || typeof raw !== 'object' || Array.isArray(raw)) {
    throw new ConfigError(`[config] ${where}: expected settings by name, such as "epochs: 20", received ${show(raw)}`);
  }
  const result = settingsSchema.safeParse(raw);
  if (!result.success) {
    throw new ConfigError(`[config] ${where}: ${result.error.issues.flatMap((i) => explain(i, raw)).join('; ')}`);
  }
  const widths = [...result.data.widths].sort((a, b) => b - a);
  if (widths[0] !== 1 || new Set(widths).size < widths.length) {
    const problem = widths[0] === 1 ? 'holds a width twice' : 'must hold 1, the full network';
    throw new ConfigError(`[config] ${where}: widths ${problem}, received ${show(widths)}`);
  }
  return { ...result.data, widths };
}

function explain(issue: z.core.$ZodIssue, raw: object): string[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => `unknown setting "${key}"${didYouMean(key, settingNames)}`);
  }
  const name = String(issue.path[0]) as SettingName;
  const value = (raw as Record<string, unknown>)[name];
  const { expects, option } = settingInfo(name);
  return [
    value === undefined
      ? `${name} is missing, give ${option}`
      : `${name}: expected ${expects}, received ${show(value)}`,
  ];
}

function show(value: unknown): string {
  return typeof value === 'number' ? String(value) : (JSON.stringify(value) ?? String(value));
}

/**
 * Reads settings from a YAML or JSON file. Names may be written as in the library (`slowStart`) or as on the command
 * line (`slow-start`).
 * @throws ConfigError where the file cannot be read or parsed, or a name or value is wrong
 */
export function readSettings(file: string): Partial<Settings> {
  const isJson = extname(file) === '.json';
  let source: string;
  try {
    source = readFileSync(file, 'utf8');
  } catch (error) {
    throw new ConfigError(`[config] cannot read ${file}: ${(error as Error).message}`);
  }
  let parsed: unknown;
  try {
    parsed = isJson ? JSON.parse(source) : parseYaml(source);
  } catch (error) {
    throw new ConfigError(`[config] ${file} is not valid ${isJson ? 'JSON' : 'YAML'}: ${(error as Error).message}`);
  }
  if (parsed === null || typeof parsed !== 'object' || Array.isArray(parsed)) {
    throw new ConfigError(
      `[config] ${file}: expected settings by name, such as "epochs: 20", received ${show(parsed)}`,
    );
  }
  const settings: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(parsed)) {
    const name = key.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
    if (Object.hasOwn(settings, name)) throw new ConfigError(`[config] ${file}: ${name} is given twice`);
    settings[name] = value;
  }
  checkSettings({ data: '.', ...settings }, file); // here, so that an error names the file
  return settings;
}

/**
 * Settles the defaults that depend on the pictures and on the recipe.
 * @param side the longest side of the pictures, in pixels
 * @throws ConfigError where settings are wrong or contradict each other
 */
export function resolveConfig(raw: Settings, side: number): RunConfig {
  const s = checkSettings(raw);
  const small = (s.image ?? side) <= 64;
  const recipe = s.recipe ?? (small ? 'cifar' : 'mocov2');
  const cifar = recipe === 'cifar';
  const isCifarArch = (cifarArchs as readonly string[]).includes(s.arch);
  const batch = s.batch ?? (cifar ? 128 : 256);
  const config: RunConfig = {
    ...s,
    data: resolve(s.data),
    init: s.init && resolve(s.init),
    recipe,
    batch,
    image: s.image ?? (small ? Math.max(8, side) : 224),
    stem: s.stem ?? (small || isCifarArch ? 'cifar' : 'imagenet'),
    baseWidth: s.baseWidth ?? (isCifarArch ? 16 : 64),
    slowStart: s.slowStart ?? s.epochs / 2,
    queue: s.queue ?? (cifar ? 4096 : 65536),
    lr: s.lr ?? (cifar ? 0.06 : (0.2 * batch) / 1024),
    warmupEpochs: s.warmupEpochs ?? (cifar ? 0 : Math.min(10, s.epochs / 10)),
    weightDecay: s.weightDecay ?? (cifar ? 5e-4 : 1e-4),
    encoderMomentum: s.encoderMomentum ?? (cifar ? 0.99 : 0.999),
  };
  if (config.warmupEpochs >= config.epochs) {
    throw new ConfigError(`[config] warmupEpochs (${config.warmupEpochs}) must be below epochs (${config.epochs})`);
  }
  if (config.stem === 'imagenet' && isCifarArch) {
    throw new ConfigError(
      `[config] ${config.arch} has the cifar stem only; use resnet18 or larger for the imagenet stem`,
    );
  }
  return config;
}

/** The settings in which a run differs from a checkpoint so that it cannot continue it, each with both values. */
export function differences(ours: RunConfig, theirs: Partial<RunConfig>): string[] {
  return settingNames
    .filter((name) => name !== 'data' && !settingInfo(name).free && show(ours[name]) !== show(theirs[name]))
    .map((name) => `${name} (${show(ours[name])} now, ${show(theirs[name])} in the checkpoint)`);
}
