import { native } from '../../native';
import { needsGrad, record } from '../tape';
import { Tensor } from '../tensor';

export interface SlimInfoNCEOptions {
  /** Unit query embeddings of each width, [N, D] float32, descending: the first is the full network's, the teacher's. */
  queries: readonly Tensor[];
  /** Unit key embeddings [N, D]: the positives. */
  key: Tensor;
  /** Unit rows [K, D]: the negatives. */
  queue: Tensor;
  /** Loss weight λ of each width, [W] float32. */
  weights: Tensor;
  /** T of InfoNCE. */
  temperature: number;
  /** T_t and T_s of the distillation. */
  teacherTemperature: number;
  studentTemperature: number;
  /** Share a of the distillation in a sub-network's loss: (1 − a)·InfoNCE + a·KD. */
  aux: number;
  /** 'similarity': the full network's similarity distribution teaches the others; 'none': InfoNCE alone. */
  distill: 'similarity' | 'none';
  /** Teach by the mean of all larger widths' distributions; default false. */
  fullDistill?: boolean;
}

/**
 * The SlimCLR loss of MoCo v2: InfoNCE of every width against the queue, and online distillation of the full width's
 * similarity distribution into each sub-network (paper, section on online distillation). One pass over the queue
 * gives loss and gradient; the [N, K] logits are never stored. The teacher is detached; key, queue and weights have no
 * gradient.
 *
 * On a CPU with AVX512-VNNI a queue of K ≥ 16,384 is rounded to 16 bits at temperatures from 0.2 up: the gradient is then
 * within 5e-5 of its norm; else within 3e-6.
 *
 * @returns `loss` = Σ λ_w·L_w (differentiable) and `perWidth`, the L_w [W]
 */
export function slimInfoNCE(options: SlimInfoNCEOptions): { loss: Tensor; perWidth: Tensor } {
  const { queries, key, queue, weights, distill, fullDistill = false } = options;
  const wanted = needsGrad(...queries);
  const [handle, perWidth, gradients] = native.slimInfoNCE(
    queries.map((q) => q.handle),
    key.handle,
    queue.handle,
    weights.handle,
    wanted,
    options.temperature,
    options.teacherTemperature,
    options.studentTemperature,
    options.aux,
    distill === 'similarity',
    fullDistill,
  );
  const loss = new Tensor(handle);
  if (wanted) record(loss, queries, gradients, (saved, dy) => saved.map((gradient) => native.scale(gradient, 1, dy)));
  for (const gradient of gradients) gradient.dispose();
  return { loss, perWidth: new Tensor(perWidth) };
}
