import { native } from '../../native';
import { needsGrad, record } from '../tape';
import { Tensor } from '../tensor';

export interface DistillOptions {
  /** Softmax temperatures T_t and T_s of `kd`. Default 1 and 1. */
  teacherTemperature?: number;
  studentTemperature?: number;
  /** [N] int32, which class of each row is the positive: for `dkd`. */
  positives?: Tensor;
}

/**
 * How far a student is from its teacher, the mean over rows of
 * - `kd`: T_s² · cross entropy of softmax(student / T_s) against softmax(teacher / T_t)
 *   (Hinton et al., "Distilling the Knowledge in a Neural Network")
 * - `mse`: the mean squared difference
 * - `atkd`: 16 · KL of softmax(2 · layer norm / 4), which the teacher's sharpness does not change
 *   (Guo et al., "Reducing the Teacher-Student Gap via Adaptive Temperatures")
 * - `dkd`: KL of (positive, all others) + 0.5 · KL over the others
 *   (Zhao et al., "Decoupled Knowledge Distillation")
 *
 * One pass gives loss and gradient. No gradient flows into the teacher.
 *
 * @param student [N, C] float32: logits, similarities or embeddings
 * @param teacher likewise
 * @returns a scalar
 */
export function distill(
  kind: 'kd' | 'mse' | 'atkd' | 'dkd',
  student: Tensor,
  teacher: Tensor,
  { teacherTemperature = 1, studentTemperature = 1, positives }: DistillOptions = {},
): Tensor {
  const wanted = needsGrad(student);
  const [handle, gradient] = native.distill(
    kind,
    student.handle,
    teacher.handle,
    (kind === 'dkd' && positives?.handle) || null,
    wanted,
    teacherTemperature,
    studentTemperature,
  );
  const loss = new Tensor(handle);
  if (gradient) {
    record(loss, [student], [gradient], ([saved], dy) => [native.scale(saved, 1, dy)]);
    gradient.dispose();
  }
  return loss;
}
