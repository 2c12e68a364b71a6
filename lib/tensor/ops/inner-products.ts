import { native } from '../../native';
import { needsGrad, record } from '../tape';
import { Tensor } from '../tensor';

/**
 * All inner products of rows, a · bᵀ; of unit rows their cosine similarities. Gradients flow to both sides.
 *
 * @param a [N, D] float32
 * @param b [M, D] float32; may be `a` itself
 * @returns [N, M]
 */
export function innerProducts(a: Tensor, b: Tensor): Tensor {
  const y = new Tensor(native.linear(a.handle, b.handle, null, b.shape[0], b.shape[1]));
  if (needsGrad(a, b)) {
    const [wantA, wantB] = [a.requiresGrad, b.requiresGrad];
    record(y, [a, b], [a.handle, b.handle], ([savedA, savedB], dy) => {
      const db = wantB ? native.zeros(savedB.shape, 'float32', savedB.device) : null;
      if (db) native.linearBackwardWeight(savedA, dy, db, null);
      return [wantA ? native.linearBackwardData(dy, savedB, savedB.shape[1]) : null, db];
    });
  }
  return y;
}
