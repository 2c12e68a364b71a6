import { native } from '../../native';
import type { NativeTensor } from '../../native-addon';
import type { Tensor } from '../tensor';

const handles = (tensors: readonly Tensor[]): NativeTensor[] => tensors.map((t) => t.handle);

export interface SgdOptions {
  /** Learning rate, a float32 tensor of one element. */
  lr: Tensor;
  momentum: number;
  /** L2 decay of all parameters, or one for each. */
  weightDecay: number | readonly number[];
  /** Default false. */
  nesterov?: boolean;
}

/** One step of SGD with momentum over all parameters in one call, as PyTorch's: μ ← m·μ + (g + wd·p); p ← p − lr·μ. */
export function sgd(
  params: readonly Tensor[],
  grads: readonly Tensor[],
  momentumBuffers: readonly Tensor[],
  { lr, momentum, weightDecay, nesterov = false }: SgdOptions,
): void {
  const decay = typeof weightDecay === 'number' ? params.map(() => weightDecay) : weightDecay;
  native.sgd(handles(params), handles(grads), handles(momentumBuffers), lr.handle, momentum, nesterov, decay);
}

/** Exponential moving average in one call: target ← m·target + (1 − m)·source; m is a float32 tensor of one element. */
export function ema(targets: readonly Tensor[], sources: readonly Tensor[], m: Tensor): void {
  native.ema(handles(targets), handles(sources), m.handle);
}

/**
 * Writes keys [N, D] over the oldest rows of a ring buffer queue [K, D], from `pointer` (int64, one element) on, and
 * advances it modulo K. N need not divide K.
 */
export function enqueue(queue: Tensor, keys: Tensor, pointer: Tensor): void {
  native.enqueue(queue.handle, keys.handle, pointer.handle);
}
