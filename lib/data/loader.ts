/**
 * Batches for training and evaluation, from a store in memory or from files decoded ahead of use.
 *
 * The order of an epoch depends on (seed, epoch) alone and not on what was drawn before, so a run that starts at any step of
 * any epoch gets the batches that the uninterrupted run would have got.
 */
import { BatchDecoder, type DecodeOptions } from './batch-decoder';
import { checkWhole } from './check-whole';
import type { ImageFiles } from './folder';
import type { ImageStore } from './image-store';
import { permutation, Philox, RandomStream } from './philox';

/** What batches are drawn from. */
export type ImageSource = ImageStore | ImageFiles;

export interface Batch {
  readonly epoch: number;
  /** Step within the epoch. */
  readonly step: number;
  /** [N]: which pictures of the source. */
  readonly indices: Int32Array;
  /** From a store: the store's own buffer, of which `offsets` point out the batch. From files: the batch's pictures. */
  readonly pixels: Uint8Array;
  /** [N] */
  readonly offsets: BigInt64Array;
  /** [N, 2]: height, width. */
  readonly sizes: Int32Array;
  /** [N] or null. */
  readonly labels: Int32Array | null;
}

export interface TrainingOptions extends DecodeOptions {
  readonly batchSize: number;
  /** Whole number from 0 up; another seed gives another order. */
  readonly seed: number;
  /** Total epochs; the batches end with the last step of epoch `epochs` - 1. */
  readonly epochs: number;
  /** Where to begin: 0 for a new run. */
  readonly epoch?: number;
  readonly step?: number;
}

/** Number of pictures. */
export function imageCount(source: ImageSource): number {
  return 'pixels' in source ? source.offsets.length : source.paths.length;
}

/** Training steps per epoch: the pictures left over at its end, too few for a batch, are dropped. */
export function stepsPerEpoch(source: ImageSource, batchSize: number): number {
  return Math.floor(imageCount(source) / batchSize);
}

/** The order in which an epoch visits `count` pictures. */
export function epochOrder(count: number, seed: number, epoch: number): Int32Array {
  return permutation(count, new Philox(seed, RandomStream.order, epoch));
}

/**
 * Shuffled batches of full size from (epoch, step) on, epoch after epoch.
 *
 * In place of a bad file stands the next good one of the source, always the same. Leaving the loop early stops the prefetching.
 *
 * @throws RangeError for a batch larger than the source or a beginning behind the end; DataError if too many files are bad.
 */
export function trainingBatches(source: ImageSource, options: TrainingOptions): AsyncGenerator<Batch, void, undefined> {
  const { batchSize, seed, epochs, epoch = 0, step = 0 } = options;
  const count = imageCount(source);
  checkWhole('batchSize', batchSize, 1);
  checkWhole('epochs', epochs, 0);
  checkWhole('epoch', epoch, 0);
  checkWhole('step', step, 0);
  const steps = stepsPerEpoch(source, batchSize);
  if (steps === 0) {
    throw new RangeError(
      `[data] a batch of ${batchSize} needs as many pictures, the source has ${count}. Lower the batch size.`,
    );
  }
  if (step > steps) {
    throw new RangeError(`[data] expected to begin at a step up to ${steps}, the steps of an epoch, received ${step}.`);
  }

  function* plans(): Generator<Plan> {
    for (let e = epoch; e < epochs; e++) {
      const order = epochOrder(count, seed, e);
      for (let s = e === epoch ? step : 0; s < steps; s++) {
        yield { epoch: e, step: s, indices: order.slice(s * batchSize, (s + 1) * batchSize) };
      }
    }
  }
  return batches(source, plans(), options);
}

/** All pictures in order, once; the last batch may be smaller. For evaluation. */
export function orderedBatches(
  source: ImageSource,
  options: DecodeOptions & { readonly batchSize: number },
): AsyncGenerator<Batch, void, undefined> {
  const { batchSize } = options;
  checkWhole('batchSize', batchSize, 1);
  const count = imageCount(source);

  function* plans(): Generator<Plan> {
    for (let step = 0; step * batchSize < count; step++) {
      const size = Math.min(batchSize, count - step * batchSize);
      yield { epoch: 0, step, indices: Int32Array.from({ length: size }, (_, i) => step * batchSize + i) };
    }
  }
  return batches(source, plans(), options);
}

/** A batch before its pictures are there. */
type Plan = Pick<Batch, 'epoch' | 'step' | 'indices'>;

function batches(
  source: ImageSource,
  plans: Iterator<Plan>,
  options: DecodeOptions,
): AsyncGenerator<Batch, void, undefined> {
  if ('pixels' in source) return fromStore(source, plans);
  const { prefetch = 3 } = options;
  checkWhole('prefetch', prefetch, 1);
  return fromFiles(new BatchDecoder(source, options), plans, prefetch);
}

// eslint-disable-next-line @typescript-eslint/require-await -- the same type as for files, where there is something to wait for
async function* fromStore(store: ImageStore, plans: Iterator<Plan>): AsyncGenerator<Batch, void, undefined> {
  for (let next = plans.next(); !next.done; next = plans.next()) {
    const { indices } = next.value;
    const sizes = new Int32Array(indices.length * 2);
    indices.forEach((image, i) => sizes.set(store.sizes.subarray(image * 2, image * 2 + 2), i * 2));
    yield {
      ...next.value,
      pixels: store.pixels,
      offsets: BigInt64Array.from(indices, (image) => store.offsets[image]),
      sizes,
      labels: store.labels && indices.map((image) => store.labels![image]),
    };
  }
}

async function* fromFiles(
  decoder: BatchDecoder,
  plans: Iterator<Plan>,
  prefetch: number,
): AsyncGenerator<Batch, void, undefined> {
  const ahead: Promise<Batch>[] = [];
  const fill = (): void => {
    while (ahead.length < prefetch) {
      const next = plans.next();
      if (next.done) return;
      const { epoch, step, indices } = next.value;
      const batch = decoder.decode(indices).then((images) => ({ epoch, step, ...images }));
      batch.catch(() => {}); // the error is thrown when the batch's turn comes, or of no interest any more
      ahead.push(batch);
    }
  };
  try {
    for (fill(); ahead.length > 0;) {
      const batch = await ahead.shift()!;
      fill(); // the next ones are decoded while this one is used
      yield batch;
    }
  } finally {
    decoder.stop();
  }
}
