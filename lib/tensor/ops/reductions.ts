import { native } from '../../native';
import { needsGrad, record } from '../tape';
import { Tensor } from '../tensor';

function weightedSum(x: Tensor, factor: number): Tensor {
  const y = new Tensor(native.sum(x.handle, factor));
  if (needsGrad(x)) {
    const { shape, dtype } = x;
    record(y, [x], [], (_, dy) => {
      const dx = native.broadcast(dy, factor, shape);
      if (dtype === 'float32') return [dx];
      const converted = native.cast(dx, dtype);
      dx.dispose();
      return [converted];
    });
  }
  return y;
}

/** Σx as a scalar, float32. */
export function sum(x: Tensor): Tensor {
  return weightedSum(x, 1);
}

/** The mean of all elements as a scalar, float32. */
export function mean(x: Tensor): Tensor {
  if (x.size === 0)
    throw new RangeError(`[mean] expected a tensor that is not empty, received [${x.shape.join(', ')}]`);
  return weightedSum(x, 1 / x.size);
}
