import { imageCount, permutation, Philox, trainingBatches, type ImageSource } from '../data';
import type { SlimmableEncoder } from '../nn';
import { noGrad, scope, tensor, type Device, type Tensor } from '../tensor';
import type { FeatureSet } from './features';
import { decodeConcurrency } from './pictures';
import type { Views, ViewSettings } from './views';

/** One step's worth of frozen features to train probes on. */
export interface ProbeBatch {
  epoch: number;
  labels: Int32Array;
  /** [N, dims[i]] of every width. Only enqueues work; call it in a scope. */
  features: () => Tensor[];
}

export interface ProbeBatchOptions {
  epochs: number;
  /** Pictures per step. */
  batch: number;
  seed: number;
}

/** What linear probes are trained on: frozen features of labelled pictures, in another order every epoch. */
export interface ProbeFeatures {
  dims: readonly number[];
  /** Root mean square length of each width's features. */
  lengths: readonly number[];
  stepsPerEpoch(batch: number): number;
  batches(options: ProbeBatchOptions): Iterable<ProbeBatch> | AsyncIterable<ProbeBatch>;
}

// Philox stream of the order of training.
const orderStream = 2 ** 20 + 3;

/** Features that were computed once, the same in every epoch. */
export function computedFeatures({ features, dims, labels }: FeatureSet, device: Device): ProbeFeatures {
  const count = labels.length;
  function* batches({ epochs, batch, seed }: ProbeBatchOptions): Generator<ProbeBatch> {
    for (let epoch = 0; epoch < epochs; epoch++) {
      const order = permutation(count, new Philox(seed, orderStream, epoch));
      for (let begin = 0; begin < count; begin += batch) {
        const rows = order.subarray(begin, begin + batch);
        yield {
          epoch,
          labels: rows.map((row) => labels[row]),
          features: () => features.map((all, i) => gather(all, dims[i], rows, device)),
        };
      }
    }
  }
  return {
    dims,
    lengths: features.map((rows, i) => meanLength(rows, dims[i])),
    stepsPerEpoch: (batch) => Math.ceil(count / batch),
    batches,
  };
}

/** Pictures that tell how long random crops' features are. */
const sampleSize = 256;

/**
 * Features of random crops, computed anew every epoch, so that a probe sees no picture twice in the same way. Pictures too
 * few for a batch at the end of an epoch are left out. Which crops are drawn depends on the seeds alone.
 * @param encoder frozen, in evaluation mode
 * @param views of the pictures; they are the caller's
 */
export async function randomCropFeatures(
  encoder: SlimmableEncoder,
  source: ImageSource,
  views: Views,
  { image, seed }: Pick<ViewSettings, 'image' | 'seed'>,
): Promise<ProbeFeatures> {
  const count = imageCount(source);
  const sizeOf = (batch: number) => Math.min(batch, count);
  const stepsPerEpoch = (batch: number) => Math.floor(count / sizeOf(batch));
  async function* batches({ epochs, batch, seed }: ProbeBatchOptions): AsyncGenerator<ProbeBatch> {
    const options = { batchSize: sizeOf(batch), seed, epochs, outputSize: image, concurrency: decodeConcurrency };
    for await (const pictures of trainingBatches(source, options)) {
      const { epoch, step, labels } = pictures;
      const drawn = (epoch * stepsPerEpoch(batch) + step) * options.batchSize;
      const features = () =>
        noGrad(() => {
          const x = views.crops(pictures, drawn);
          return encoder.widths.map((_, i) => encoder.features(x, i));
        });
      yield { epoch, labels: labels!, features };
    }
  }
  const dims = encoder.featureDims;
  let lengths: number[] = [];
  for await (const { features } of batches({ epochs: 1, batch: sampleSize, seed })) {
    const sample = scope(features);
    lengths = await Promise.all(sample.map(async (f, i) => meanLength((await f.data()) as Float32Array, dims[i])));
    for (const f of sample) f.dispose();
    break;
  }
  return { dims, lengths, stepsPerEpoch, batches };
}

/** Root mean square length of the rows; 1 where all are zero. */
function meanLength(rows: Float32Array, dim: number): number {
  let squares = 0;
  for (const x of rows) squares += x * x;
  return Math.sqrt((squares * dim) / rows.length) || 1;
}

function gather(features: Float32Array, dim: number, rows: Int32Array, device: Device): Tensor {
  const out = new Float32Array(rows.length * dim);
  rows.forEach((row, i) => out.set(features.subarray(row * dim, (row + 1) * dim), i * dim));
  return tensor(out, [rows.length, dim], { device });
}
