import { createHash } from 'node:crypto';
import { imageCount, orderedBatches, type ImageSource } from '../data';
import { readState, type Module, type SlimmableEncoder } from '../nn';
import { noGrad, scope, type Device } from '../tensor';
import { decodeConcurrency } from './pictures';
import { Views, type ViewSettings } from './views';

/** Pooled features of labelled pictures at every width, on the host. */
export interface FeatureSet {
  widths: readonly number[];
  /** Per width: [n, dims[i]], row by row. */
  features: readonly Float32Array[];
  dims: readonly number[];
  labels: Int32Array;
}

/** Pictures per forward pass; bounds the memory of an evaluation. */
const evaluationBatch = 256;

/**
 * Features of all pictures at every width. The network is in evaluation mode meanwhile and returns to its own.
 * @throws RangeError where the pictures have no classes
 */
export async function extractFeatures(
  encoder: SlimmableEncoder,
  source: ImageSource,
  settings: ViewSettings,
  device: Device,
  signal?: AbortSignal,
): Promise<FeatureSet> {
  if (!source.labels) throw new RangeError('[features] expected pictures with classes, received pictures without');
  const count = imageCount(source);
  const { widths, featureDims: dims } = encoder;
  const features = dims.map((dim) => new Float32Array(count * dim));
  const labels = new Int32Array(count);
  const views = new Views(source, settings, device);
  const wasTraining = encoder.training;
  encoder.eval();
  try {
    const options = { batchSize: evaluationBatch, outputSize: settings.image, concurrency: decodeConcurrency };
    for await (const batch of orderedBatches(source, options)) {
      signal?.throwIfAborted();
      const outputs = scope(() =>
        noGrad(() => {
          const x = views.evaluation(batch);
          return widths.map((_, i) => encoder.features(x, i));
        }),
      );
      const begin = batch.step * evaluationBatch;
      labels.set(batch.labels!, begin);
      for (const [i, output] of outputs.entries()) {
        features[i].set((await output.data()) as Float32Array, begin * dims[i]);
        output.dispose();
      }
    }
  } finally {
    encoder.train(wasTraining);
    views.dispose();
  }
  return { widths, features, dims, labels };
}

/** A digest of all parameters and buffers, which shows whether anything in a network changed. */
export async function fingerprint(module: Module): Promise<string> {
  const hash = createHash('sha256');
  for (const [name, { data }] of await readState(module.stateDict())) hash.update(name).update(data);
  return hash.digest('hex');
}
