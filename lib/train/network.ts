import { readSafetensors, toFloat32, type SafetensorsTensor } from '../io';
import { inferNetwork, type ResNetOptions } from '../nn';
import {
  CheckpointError,
  parseCheckpoint,
  parsePart,
  withPrefix,
  type Checkpoint,
  type CheckpointConfig,
} from './checkpoint';
import { checkSettings } from './config';
import type { ViewSettings } from './views';

/** Metadata `format` of a file that holds a network without a run: an imported one. */
export const networkFormat = 'slimclr-network-1';

/** How a network is built, without the device; nothing is left to a default but `mlpDim`. */
export type NetworkOptions = Required<Omit<ResNetOptions, 'device' | 'mlpDim'>> & Pick<ResNetOptions, 'mlpDim'>;

/** A trained network in a file: in the checkpoint of a run, or imported. */
export interface StoredNetwork {
  file: string;
  options: NetworkOptions;
  /** How the pictures look that it was trained on. */
  views: ViewSettings;
  /** Its tensors by the names of {@link SlimmableResNet}; floating-point ones in float32. */
  weights: Map<string, SafetensorsTensor>;
  /** The run, where the file is its checkpoint. */
  run?: Pick<Checkpoint, 'config' | 'progress'>;
  /** Where it was imported from. */
  source?: Record<string, unknown>;
}

/** How the network of a run is built. */
export function networkOptions(config: CheckpointConfig): Omit<NetworkOptions, 'head' | 'outDim' | 'mlpDim'> {
  const { arch, widths, baseWidth, stem, precision, seed } = config;
  return { arch, widths, baseWidth, stem, precision, seed };
}

/** Where a run keeps the network that it trains among its method's tensors. */
const encoderPrefixes = {
  'moco-v2': 'encoder_q.',
  'moco-v3': 'base_encoder.',
  simclr: 'encoder_q.',
  supervised: '',
} as const satisfies Record<CheckpointConfig['method'], string>;

/**
 * Reads the network of a run's checkpoint or of an imported file.
 * @throws SafetensorsError; CheckpointError for a file of another kind
 */
export async function readNetwork(file: string): Promise<StoredNetwork> {
  const { metadata, tensors } = await readSafetensors(file);
  if (metadata.format === networkFormat) return parseNetwork(file, metadata, tensors);
  const { config, progress } = parseCheckpoint(file, metadata, tensors);
  // Float32 holds whatever float16 does, on every device.
  const precision = config.precision === 'fp16' ? 'fp32' : config.precision;
  return {
    file,
    options: {
      ...networkOptions(config),
      precision,
      head: config.head,
      outDim: config.dim,
      mlpDim: config.mlpDim || undefined,
    },
    views: { ...config, precision },
    weights: withPrefix(tensors, `module.${encoderPrefixes[config.method]}`),
    run: { config, progress },
  };
}

/** A network of a file whose metadata has {@link networkFormat}. */
export function parseNetwork(
  file: string,
  metadata: Record<string, string>,
  tensors: Map<string, SafetensorsTensor>,
): StoredNetwork {
  const weights = [...networkTensors(tensors, metadata.prefix)].map(([name, t]) => [name, inFloat32(t)] as const);
  try {
    const { recipe, image } = checkSettings({ ...parsePart(file, metadata, 'views'), data: '.' });
    if (!recipe || !image) throw new Error('its metadata "views" lacks recipe or image; import it again');
    return {
      file,
      // Not from the metadata, which may claim a network of any size.
      options: { ...inferNetwork(new Map(weights)), precision: 'fp32', seed: 0 },
      views: { recipe, image, precision: 'fp32', seed: 0 },
      weights: new Map(weights),
      source: parsePart(file, metadata, 'source'),
    };
  } catch (error) {
    if (error instanceof CheckpointError) throw error;
    throw new CheckpointError(`[checkpoint] ${file}: ${(error as Error).message}`);
  }
}

/** The tensors of the network under a prefix, which may be empty, without what stands beside it: a queue, a predictor. */
export function networkTensors(
  tensors: Map<string, SafetensorsTensor>,
  prefix: string,
): Map<string, SafetensorsTensor> {
  return new Map([...withPrefix(tensors, prefix)].filter(([name]) => /^(conv1|bn1|features|fc)\./.test(name)));
}

function inFloat32(tensor: SafetensorsTensor): SafetensorsTensor {
  if (!['F64', 'F16', 'BF16'].includes(tensor.dtype)) return tensor;
  return { dtype: 'F32', shape: tensor.shape, data: toFloat32(tensor) };
}
