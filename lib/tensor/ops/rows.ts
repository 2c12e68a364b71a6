import { native } from '../../native';
import { needsGrad, record } from '../tape';
import { Tensor } from '../tensor';

/** The same elements, row-major, under another shape. Activations in the device's own layout cannot be reshaped. */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  const y = new Tensor(native.reshape(x.handle, shape));
  if (needsGrad(x)) {
    const before = x.shape;
    record(y, [x], [], (_, dy) => [native.reshape(dy, before)]);
  }
  return y;
}

/**
 * The rows (slices of the first dimension) with the numbers `index`, which may repeat.
 *
 * @param inputs one tensor of any dtype, or several alike but for the first dimension, whose rows are counted through
 * from one to the next; only float32 ones can have gradients
 * @param index [M] int32; one outside of 0…rows-1 makes the next read of a result fail
 * @returns [M, …]
 */
export function indexSelect(inputs: Tensor | readonly Tensor[], index: Tensor): Tensor {
  return select(inputs instanceof Tensor ? [inputs] : inputs, index);
}

/** Tensors, alike but for the first dimension, on top of each other. */
export function concat(inputs: readonly Tensor[]): Tensor {
  return select(inputs, null);
}

/** @param index null: all rows in their order */
function select(list: readonly Tensor[], index: Tensor | null): Tensor {
  const y = new Tensor(
    native.indexSelect(
      list.map((x) => x.handle),
      index?.handle ?? null,
    ),
  );
  if (needsGrad(...list)) {
    const parts = list.map((x, i) => ({
      wanted: x.requiresGrad,
      shape: x.shape,
      first: list.slice(0, i).reduce((rows, { shape }) => rows + shape[0], 0),
    }));
    record(y, list, index ? [index.handle] : [], ([savedIndex], dy) =>
      parts.map(({ wanted, first, shape }) =>
        wanted ? native.indexSelectBackward(dy, savedIndex ?? null, first, shape) : null,
      ),
    );
  }
  return y;
}
