import { native } from '../../native';
import { needsGrad, record } from '../tape';
import { Tensor } from '../tensor';

/** Rows of unit length: x / max(‖x‖, eps). x [N, D] float32; eps 1e-12 as in PyTorch's normalize. */
export function l2Normalize(x: Tensor, { eps = 1e-12 }: { eps?: number } = {}): Tensor {
  const [handle, norm] = native.l2Normalize(x.handle, eps);
  const y = new Tensor(handle);
  if (needsGrad(x)) {
    record(y, [x], [handle, norm], ([savedY, savedNorm], dy) => [
      native.l2NormalizeBackward(savedY, savedNorm, dy, eps),
    ]);
  }
  norm.dispose();
  return y;
}
