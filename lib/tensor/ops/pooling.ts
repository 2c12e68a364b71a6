import { native } from '../../native';
import { needsGrad, record } from '../tape';
import { Tensor } from '../tensor';

export interface PoolOptions {
  kernelSize: number;
  stride: number;
  /** Default 0; padded places never win. */
  padding?: number;
}

/** Maximum over windows. x [N, C, H, W] → [N, C, H', W']. */
export function maxPool2d(x: Tensor, { kernelSize, stride, padding = 0 }: PoolOptions): Tensor {
  const [handle, index] = native.maxPool2d(x.handle, kernelSize, stride, padding);
  const y = new Tensor(handle);
  if (needsGrad(x)) {
    const shape = x.shape;
    record(y, [x], [index], ([i], dy) => [native.maxPool2dBackward(dy, i, shape, kernelSize, stride, padding)]);
  }
  index.dispose();
  return y;
}

/** Mean over each image. x [N, C, H, W], float32 or a type of 16 bits → [N, C] float32. */
export function globalAvgPool2d(x: Tensor): Tensor {
  const y = new Tensor(native.globalAvgPool2d(x.handle));
  if (needsGrad(x)) {
    const { shape, dtype } = x;
    record(y, [x], [], (_, dy) => [native.globalAvgPool2dBackward(dy, shape, dtype)]);
  }
  return y;
}
