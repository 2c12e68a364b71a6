import { native } from '../../native';
import type { DType } from '../../native-addon';
import { needsGrad, record } from '../tape';
import { Tensor } from '../tensor';

/** max(x, 0). */
export function relu(x: Tensor): Tensor {
  const y = new Tensor(native.relu(x.handle));
  if (needsGrad(x)) record(y, [x], [y.handle], ([savedY], dy) => [native.reluBackward(savedY, dy)]);
  return y;
}

/** a + b, of one shape and dtype. */
export function add(a: Tensor, b: Tensor): Tensor {
  const y = new Tensor(native.add(a.handle, b.handle));
  if (needsGrad(a, b)) record(y, [a, b], [], (_, dy) => [native.alias(dy), native.alias(dy)]);
  return y;
}

/** factor · x. */
export function scale(x: Tensor, factor: number): Tensor {
  const y = new Tensor(native.scale(x.handle, factor, null));
  if (needsGrad(x)) record(y, [x], [], (_, dy) => [native.scale(dy, factor, null)]);
  return y;
}

/** x as float32, bfloat16 or, on CUDA, float16. */
export function cast(x: Tensor, dtype: DType): Tensor {
  const y = new Tensor(native.cast(x.handle, dtype));
  if (needsGrad(x)) {
    const from = x.dtype;
    record(y, [x], [], (_, dy) => [native.cast(dy, from)]);
  }
  return y;
}

/** Overwrites float32 tensors with one value, in one call. */
export function fill(tensors: readonly Tensor[], value: number): void {
  native.fill(
    tensors.map((t) => t.handle),
    value,
  );
}
