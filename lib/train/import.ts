import { basename } from 'node:path';
import { checkOutput, readTorchCheckpoint, writeSafetensors, type SafetensorsTensor } from '../io';
import { encoderPrefix, inferNetwork } from '../nn';
import { CheckpointError } from './checkpoint';
import type { RunConfig } from './config';
import { buildEncoder } from './encoder';
import { networkFormat, networkTensors, parseNetwork, type StoredNetwork } from './network';

/** How the pictures looked, which no tensor tells. */
export interface ImportOptions {
  /** Augmentations, whose mean and deviation pictures are normalised with. Default by stem: `cifar`, `mocov2`. */
  recipe?: RunConfig['recipe'];
  /** Side of the crops. Default by stem: 32, 224. */
  image?: number;
}

/**
 * Imports a checkpoint of the released implementation: all of its state dict goes to a safetensors file, under the names
 * that it has there and with their dtypes; architecture, widths, base width and head are told from names and shapes.
 * Nothing in the file is executed, and the network is built once to be sure that it is whole.
 * @throws TorchFileError for a file that torch.save did not write, or with more in it than weights; CheckpointError for
 * weights of no network known here; WriteError
 */
export async function importCheckpoint(
  file: string,
  output: string,
  views: ImportOptions = {},
): Promise<StoredNetwork> {
  checkOutput(output, file);
  const { format, settings, tensors } = await readTorchCheckpoint(file);
  const metadata = {
    ...describe(file, tensors, views),
    source: JSON.stringify({ ...settings, file: basename(file), torch: format }),
  };
  const stored = parseNetwork(file, metadata, tensors);
  buildEncoder(stored, 'cpu').dispose();
  await writeSafetensors(output, tensors, metadata);
  return { ...stored, file: output };
}

/** The metadata of the network in a state dict, but for its source. */
function describe(
  file: string,
  tensors: Map<string, SafetensorsTensor>,
  { recipe, image }: ImportOptions,
): Record<'format' | 'network' | 'prefix' | 'views', string> {
  try {
    const prefix = encoderPrefix(tensors);
    const network = inferNetwork(networkTensors(tensors, prefix));
    const cifar = network.stem === 'cifar';
    const views = { recipe: recipe ?? (cifar ? 'cifar' : 'mocov2'), image: image ?? (cifar ? 32 : 224) };
    return { format: networkFormat, network: JSON.stringify(network), prefix, views: JSON.stringify(views) };
  } catch (error) {
    throw new CheckpointError(`[import] ${file}: ${(error as Error).message}`);
  }
}
