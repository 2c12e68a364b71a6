import { native } from '../../native';
import { gradientOf, needsGrad, record } from '../tape';
import { Tensor, type DType } from '../tensor';

export interface Conv2dOptions {
  /** Uses `weight[:outChannels, :inChannels]`; default: the whole weight. */
  outChannels?: number;
  inChannels?: number;
  /** Default 1. */
  stride?: number;
  /** Zeros around the image, in pixels; default 0. */
  padding?: number;
}

/**
 * 2-D convolution (cross-correlation) with a slice of the weight's channels.
 *
 * @param x [N, inChannels, H, W], float32 or a type of 16 bits
 * @param weight [O, I, kh, kw] float32; its gradient is of the full size, zero outside the slice
 * @returns [N, outChannels, H', W'] of x's dtype
 */
export function conv2d(x: Tensor, weight: Tensor, options: Conv2dOptions = {}): Tensor {
  const { outChannels = weight.shape[0], inChannels = weight.shape[1], stride = 1, padding = 0 } = options;
  const y = new Tensor(native.conv2d(x.handle, weight.handle, outChannels, inChannels, stride, padding));
  if (needsGrad(x, weight)) {
    const wantX = x.requiresGrad;
    record(y, [x], [x.handle], ([savedX], dy) => {
      if (weight.requiresGrad) native.conv2dBackwardWeight(savedX, dy, gradientOf(weight), stride, padding);
      return [wantX ? native.conv2dBackwardData(dy, weight.handle, savedX.shape, stride, padding) : null];
    });
  }
  return y;
}

/** What a width uses of a convolution's weight: `weight[:outChannels, :inChannels]`. */
export interface Conv2dSlice {
  /** [O, I, kh, kw] float32 */
  weight: Tensor;
  outChannels: number;
  inChannels: number;
}

/**
 * Brings slices of weights into the form that {@link conv2d} reads, all in one launch, where a device has such a form
 * (CUDA). It only saves launches: a convolution does it for its own slice where that has changed since.
 *
 * @param slices of weights on one device
 * @param dtype of the activations that will be convolved
 */
export function packWeights(slices: readonly Conv2dSlice[], dtype: DType): void {
  native.packWeights(
    slices.map((s) => s.weight.handle),
    slices.map((s) => s.outChannels),
    slices.map((s) => s.inChannels),
    dtype,
  );
}
