import { native } from '../../native';
import { needsGrad, record } from '../tape';
import { Tensor } from '../tensor';

/** Softmax of each row, for use as a target: it has no gradient. x [N, C] float32. */
export function softmax(x: Tensor): Tensor {
  return new Tensor(native.softmax(x.handle));
}

/**
 * Mean cross entropy of softmax(logits) against a target, a scalar.
 *
 * @param logits [N, C] float32
 * @param target labels [N] int32 in 0…C-1, or probabilities [N, C] float32 (no gradient flows into them)
 * @param options.labelSmoothing share of the target spread evenly over the classes; default 0
 */
export function softmaxCrossEntropy(
  logits: Tensor,
  target: Tensor,
  { labelSmoothing = 0 }: { labelSmoothing?: number } = {},
): Tensor {
  const [loss, probabilities] = native.softmaxCrossEntropy(logits.handle, target.handle, labelSmoothing);
  const y = new Tensor(loss);
  if (needsGrad(logits)) {
    record(y, [logits], [probabilities, target.handle], ([p, t], dy) => [
      native.softmaxCrossEntropyBackward(p, t, dy, labelSmoothing),
    ]);
  }
  probabilities.dispose();
  return y;
}
