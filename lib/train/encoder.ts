import { loadTensors, SlimmableResNet } from '../nn';
import type { Device } from '../tensor';
import { CheckpointError } from './checkpoint';
import { ConfigError, type RunConfig } from './config';
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

/**
 * Checks that a run may start from a stored network: both must have the same backbone.
 * @throws ConfigError that names what differs
 */
export function checkInitial({ file, options }: StoredNetwork, config: RunConfig): void {
  const names = ['arch', 'stem', 'baseWidth', 'widths'] as const;
  const different = names.filter((name) => String(options[name]) !== String(config[name]));
  if (different.length > 0) {
    const each = different.map((name) => `${name} ${String(options[name])}, not ${String(config[name])}`);
    throw new ConfigError(
      `[init] ${file} holds a network of ${each.join(', ')}; give the run the network's own settings`,
    );
  }
}

/**
 * Copies the weights of a stored network into one with the same backbone; those of its head where it is the same too.
 * @returns what was copied, in words
 */
export function startFrom(encoder: SlimmableResNet, { file, weights }: StoredNetwork): string {
  const isHead = (name: string) => name.startsWith('fc.');
  const own = encoder.stateDict();
  const sameHead = [...own].every(([name, t]) => !isHead(name) || weights.get(name)?.shape.join() === t.shape.join());
  const chosen = <T>(tensors: ReadonlyMap<string, T>) => {
    return new Map([...tensors].filter(([name]) => !isHead(name) || (sameHead && own.has(name))));
  };
  try {
    loadTensors(encoder.arch, chosen(own), chosen(weights));
  } catch (error) {
    throw new CheckpointError(`[init] ${file}: ${(error as Error).message}`);
  }
  return sameHead ? 'backbone and head' : 'backbone; the head, which is another, starts anew';
}
