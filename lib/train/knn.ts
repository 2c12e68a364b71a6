import { knn, l2Normalize, noGrad, scope, tensor, type Device } from '../tensor';
import type { FeatureSet } from './features';

export interface KnnAccuracyOptions {
  /** Neighbours that vote, at most as many as there are training pictures. Default 200. */
  k?: number;
  /** Temperature t of the votes e^(similarity/t). Default 0.1. */
  temperature?: number;
}

/** Queries compared with the bank at once; bounds the memory for their similarities. */
const queryChunk = 512;

/**
 * Top-1 accuracy of weighted k-nearest-neighbour classification at every width: the training pictures of the nearest
 * features, by cosine, vote for their class.
 * @returns shares from 0 to 1 by width
 */
export async function knnAccuracy(
  train: FeatureSet,
  test: FeatureSet,
  classes: number,
  device: Device,
  { k = 200, temperature = 0.1 }: KnnAccuracyOptions = {},
): Promise<Record<string, number>> {
  const accuracy: Record<string, number> = {};
  for (const [i, width] of train.widths.entries()) {
    const [dim, n] = [train.dims[i], test.labels.length];
    const unit = (rows: Float32Array) => l2Normalize(tensor(rows, [rows.length / dim, dim], { device }));
    const bank = scope(() => noGrad(() => unit(train.features[i])));
    const labels = tensor(train.labels, [train.labels.length], { device });
    let correct = 0;
    for (let begin = 0; begin < n; begin += queryChunk) {
      const end = Math.min(n, begin + queryChunk);
      const query = test.features[i].subarray(begin * dim, end * dim);
      const scores = scope(() => noGrad(() => knn(unit(query), bank, labels, { k, temperature, classes })));
      correct += countCorrect((await scores.data()) as Float32Array, test.labels.subarray(begin, end), classes);
      scores.dispose();
    }
    bank.dispose();
    labels.dispose();
    accuracy[String(width)] = correct / n;
  }
  return accuracy;
}

/** Rows of `scores` [n, classes] whose highest entry is their label. */
export function countCorrect(scores: Float32Array, labels: Int32Array, classes: number): number {
  let correct = 0;
  for (let row = 0; row < labels.length; row++) {
    let best = 0;
    for (let c = 1; c < classes; c++) if (scores[row * classes + c] > scores[row * classes + best]) best = c;
    if (best === labels[row]) correct++;
  }
  return correct;
}
