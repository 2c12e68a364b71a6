import { SlimmableResNet } from '../nn';
import type { Device } from '../tensor';
import { CheckpointError } from './checkpoint';
import { readNetwork, type StoredNetwork } from './network';

/**
 * Reads a trained encoder, of a run's checkpoint or imported, frozen and in evaluation mode.
 * @param device default: the default device
 * @throws SafetensorsError; CheckpointError, also where tensors are missing or misshapen
 */
export async function loadEncoder(
  file: string,
  device?: Device,
): Promise<{ encoder: SlimmableResNet; network: StoredNetwork }> {
  const network = await readNetwork(file);
  return { encoder: buildEncoder(network, device), network };
}

/**
 * Builds a stored network, frozen and in evaluation mode.
 * @throws CheckpointError where tensors are missing or misshapen
 */
export function buildEncoder({ file, options, weights }: StoredNetwork, device?: Device): SlimmableResNet {
  let encoder: SlimmableResNet | null = null;
  try {
    encoder = new SlimmableResNet({ ...options, device });
    encoder.loadStateDict(weights);
  } catch (error) {
    encoder?.dispose();
    throw new CheckpointError(`[checkpoint] ${file}: ${(error as Error).message}`);
  }
  return encoder.freeze().eval();
}
