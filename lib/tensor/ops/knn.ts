import { native } from '../../native';
import { Tensor } from '../tensor';

export interface KnnOptions {
  /** Neighbours; more than the bank has means all of them. */
  k: number;
  /** Weights are e^(s / temperature). */
  temperature: number;
  classes: number;
}

/**
 * Weighted k-nearest-neighbour scores by cosine similarity (Wu et al., "Unsupervised Feature Learning via Non-Parametric
 * Instance Discrimination").
 *
 * @param query [N, D] and bank [M, D], unit rows, float32
 * @param labels [M] int32; neighbours with one outside of 0…classes-1 have no vote
 * @returns [N, classes]: the summed weights of the neighbours of each class
 */
export function knn(query: Tensor, bank: Tensor, labels: Tensor, { k, temperature, classes }: KnnOptions): Tensor {
  return new Tensor(native.knn(query.handle, bank.handle, labels.handle, k, temperature, classes));
}
