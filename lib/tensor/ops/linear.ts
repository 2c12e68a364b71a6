import { native } from '../../native';
import { gradientOf, needsGrad, record } from '../tape';
import { Tensor } from '../tensor';

export interface LinearOptions {
  /** Uses `weight[:outFeatures, :inFeatures]` and `bias[:outFeatures]`; default: all of them. */
  outFeatures?: number;
  inFeatures?: number;
}

/**
 * x · weightᵀ + bias with a slice of the weight.
 *
 * @param x [N, inFeatures] float32
 * @param weight [O, I] float32; its gradient is of the full size, zero outside the slice
 * @param bias [O] float32, or null
 * @returns [N, outFeatures]
 */
export function linear(x: Tensor, weight: Tensor, bias: Tensor | null, options: LinearOptions = {}): Tensor {
  const { outFeatures = weight.shape[0], inFeatures = weight.shape[1] } = options;
  const y = new Tensor(native.linear(x.handle, weight.handle, bias?.handle ?? null, outFeatures, inFeatures));
  if (needsGrad(x, weight, bias)) {
    const wantX = x.requiresGrad;
    record(y, [x], [x.handle], ([savedX], dy) => {
      const dbias = bias?.requiresGrad ? gradientOf(bias) : null;
      if (weight.requiresGrad) {
        native.linearBackwardWeight(savedX, dy, gradientOf(weight), dbias);
      } else if (dbias) {
        // The op computes both: of a frozen weight the gradient is thrown away.
        const unused = native.zeros(weight.shape, 'float32', weight.device);
        native.linearBackwardWeight(savedX, dy, unused, dbias);
        unused.dispose();
      }
      return [wantX ? native.linearBackwardData(dy, weight.handle, inFeatures) : null];
    });
  }
  return y;
}
