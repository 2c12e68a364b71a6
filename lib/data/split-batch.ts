import type { Batch } from './loader';

/** A batch in `parts` equal parts, in order; each carries the pixels of the whole. */
export function splitBatch(batch: Batch, parts: number): Batch[] {
  const size = batch.indices.length / parts;
  return Array.from({ length: parts }, (_, i) => {
    const [begin, end] = [i * size, (i + 1) * size];
    return {
      ...batch,
      indices: batch.indices.subarray(begin, end),
      offsets: batch.offsets.subarray(begin, end),
      sizes: batch.sizes.subarray(2 * begin, 2 * end),
      labels: batch.labels && batch.labels.subarray(begin, end),
    };
  });
}
