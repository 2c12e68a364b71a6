import { SlimmableResNet, type ResNetOptions } from '../nn';
import type { Device } from '../tensor';
import { CheckpointError, readCheckpoint, withPrefix, type Checkpoint, type CheckpointConfig } from './checkpoint';

/** How the network of a run is built. */
export function networkOptions(config: CheckpointConfig): Omit<ResNetOptions, 'head' | 'outDim'> {
  const { arch, widths, baseWidth, stem, precision, seed } = config;
  return { arch, widths, baseWidth, stem, precision, seed };
}

/**
 * Reads the trained encoder of a checkpoint, frozen and in evaluation mode.
 * @param device default: the default device
 * @throws SafetensorsError; CheckpointError, also where tensors are missing or misshapen
 */
export async function loadEncoder(
  file: string,
  device?: Device,
): Promise<{ encoder: SlimmableResNet; checkpoint: Checkpoint }> {
  const checkpoint = await readCheckpoint(file);
  const { config, tensors } = checkpoint;
  const encoder = new SlimmableResNet({ ...networkOptions(config), head: config.head, outDim: config.dim, device });
  try {
    encoder.loadStateDict(withPrefix(tensors, 'module.encoder_q.'));
  } catch (error) {
    encoder.dispose();
    throw new CheckpointError(`[checkpoint] ${file}: ${(error as Error).message}`);
  }
  return { encoder: encoder.freeze().eval(), checkpoint };
}
