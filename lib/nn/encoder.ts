import type { Tensor } from '../tensor';
import type { Module } from './module';

/** What features are taken of and evaluated: {@link SlimmableResNet}, or a {@link Module} of your own. */
export interface SlimmableEncoder extends Module {
  /** Descending, 1 first. */
  readonly widths: readonly number[];
  /** Length of the features of every width. */
  readonly featureDims: readonly number[];
  /**
   * Features of width i.
   * @param x normalised images [N, 3, H, W]
   * @param widthIndex i, a place in {@link widths}
   * @returns [N, featureDims[i]] float32
   */
  features(x: Tensor, widthIndex: number): Tensor;
}
