import { native } from '../../native';
import type { NativeTensor } from '../../native-addon';
import { Tensor } from '../tensor';

const handles = (tensors: readonly Tensor[]): NativeTensor[] => tensors.map((t) => t.handle);

const forEach = (params: readonly Tensor[], value: number | readonly number[]): readonly number[] =>
  typeof value === 'number' ? params.map(() => value) : value;

export interface SgdOptions {
  /** Learning rate, a float32 tensor of one element. */
  lr: Tensor;
  momentum: number;
  /** L2 decay of all parameters, or one for each. */
  weightDecay: number | readonly number[];
  /** Default false. */
  nesterov?: boolean;
  /** Float32 of one element: unless it is 0, nothing is done. Default: the step is done. */
  skip?: Tensor;
}

/** One step of SGD with momentum over all parameters in one call, as PyTorch's: μ ← m·μ + (g + wd·p); p ← p − lr·μ. */
export function sgd(
  params: readonly Tensor[],
  grads: readonly Tensor[],
  momentumBuffers: readonly Tensor[],
  { lr, momentum, weightDecay, nesterov = false, skip }: SgdOptions,
): void {
  const decay = forEach(params, weightDecay);
  const lists = [handles(params), handles(grads), handles(momentumBuffers)] as const;
  native.sgd(...lists, lr.handle, momentum, nesterov, decay, skip?.handle ?? null);
}

export interface LarsOptions {
  /** Learning rate, a float32 tensor of one element. */
  lr: Tensor;
  momentum: number;
  /** L2 decay of the parameters of more than one dimension. */
  weightDecay: number;
  /** Their step's length, as a share of their own, at learning rate 1. */
  trustCoefficient: number;
  /** As of {@link sgd}. */
  skip?: Tensor;
}

/**
 * One step of LARS over all parameters in one call: g ← g + wd·p, times trustCoefficient·‖p‖/‖g‖ where neither norm
 * is 0; μ ← m·μ + g; p ← p − lr·μ. Parameters of one dimension or none are neither decayed nor scaled.
 */
export function lars(
  params: readonly Tensor[],
  grads: readonly Tensor[],
  momentumBuffers: readonly Tensor[],
  { lr, momentum, weightDecay, trustCoefficient, skip }: LarsOptions,
): void {
  const lists = [handles(params), handles(grads), handles(momentumBuffers)] as const;
  native.lars(...lists, lr.handle, momentum, weightDecay, trustCoefficient, skip?.handle ?? null);
}

/** What AdamW keeps, per parameter: zeros before the first step. */
export interface AdamwState {
  /** Averages of the gradient and of its square, each of its parameter's shape. */
  expAvgs: readonly Tensor[];
  expAvgSqs: readonly Tensor[];
  /** Steps done, float32 of one element: a parameter that joins later counts its own. */
  steps: readonly Tensor[];
}

export interface AdamwOptions {
  /** Learning rate, a float32 tensor of one element. */
  lr: Tensor;
  beta1: number;
  beta2: number;
  eps: number;
  /** Decoupled decay of all parameters, or one for each. */
  weightDecay: number | readonly number[];
  /** As of {@link sgd}; the steps are not counted up either. */
  skip?: Tensor;
}

/** One step of AdamW over all parameters in one call, as PyTorch's. */
export function adamw(
  params: readonly Tensor[],
  grads: readonly Tensor[],
  { expAvgs, expAvgSqs, steps }: AdamwState,
  { lr, beta1, beta2, eps, weightDecay, skip }: AdamwOptions,
): void {
  const state = [handles(expAvgs), handles(expAvgSqs), handles(steps)] as const;
  const decay = forEach(params, weightDecay);
  native.adamw(handles(params), handles(grads), ...state, lr.handle, beta1, beta2, eps, decay, skip?.handle ?? null);
}

/** Multiplies every element of float32 tensors by a number, in place and in one call. */
export function rescale(tensors: readonly Tensor[], factor: number): void {
  native.rescale(handles(tensors), factor);
}

/**
 * Shortens gradients, taken together as one vector, to at most `maxNorm`: above it all are multiplied by
 * maxNorm / (norm + 1e-6), as PyTorch's `clip_grad_norm_`. Nothing is read back.
 *
 * @returns the norm before, float32 [1]; not finite where a gradient is not
 */
export function clipGradNorm(grads: readonly Tensor[], maxNorm: number): Tensor {
  return new Tensor(native.clipGradNorm(handles(grads), maxNorm));
}

/**
 * Divides every element of the gradients of a scaled loss by `scale` (float32, one element), in place and in one call.
 *
 * @returns 1 where an element is not finite, else 0: float32 [1], on the device
 */
export function unscale(grads: readonly Tensor[], scale: Tensor): Tensor {
  return new Tensor(native.unscale(handles(grads), scale.handle));
}

export interface ScaleRule {
  /** Factors of the scale after `interval` steps without overflow, and after an overflow. */
  growth: number;
  backoff: number;
  interval: number;
}

/**
 * The next loss scale, on the device and as PyTorch's `GradScaler` has it.
 *
 * @param goodSteps int64 of one element: steps without overflow since the scale changed last
 * @param found what {@link unscale} returned
 */
export function updateScale(scale: Tensor, goodSteps: Tensor, found: Tensor, rule: ScaleRule): void {
  const { growth, backoff, interval } = rule;
  native.updateScale(scale.handle, goodSteps.handle, found.handle, growth, backoff, interval);
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
