import { native } from '../../native';
import { gradientOf, needsGrad, record } from '../tape';
import { Tensor } from '../tensor';

export interface BatchNormParameters {
  /** Scale and shift per channel, [C]; both null for none. */
  weight: Tensor | null;
  bias: Tensor | null;
  /** [C]; training updates them in place. */
  runningMean: Tensor;
  runningVar: Tensor;
}

export interface BatchNormOptions {
  /** Normalise with the batch's statistics (and update the running ones), else with the running ones. */
  training: boolean;
  /** Weight of the batch in the running statistics; default 0.1. */
  momentum?: number;
  /** Added to the variance; default 1e-5. */
  eps?: number;
  /** Ends with a ReLU; default false. */
  relu?: boolean;
  /** Added before the ReLU; of x's shape and dtype. */
  residual?: Tensor | null;
  /** Adds the residual after the ReLU instead, `relu(bn(x)) + residual`; default false. */
  residualLast?: boolean;
}

/**
 * Batch normalisation over N (and H, W), fused with a residual sum and a ReLU: `[relu](bn(x) [+ residual])`.
 *
 * @param x [N, C] or [N, C, H, W], float32 or a type of 16 bits
 */
export function batchNorm(x: Tensor, bn: BatchNormParameters, options: BatchNormOptions): Tensor {
  const { training, momentum = 0.1, eps = 1e-5, relu = false, residual = null, residualLast = false } = options;
  const { weight, bias } = bn;
  const [handle, mean, rstd] = native.batchNorm(
    x.handle,
    weight?.handle ?? null,
    bias?.handle ?? null,
    bn.runningMean.handle,
    bn.runningVar.handle,
    residual?.handle ?? null,
    training,
    relu,
    residualLast,
    momentum,
    eps,
  );
  const y = new Tensor(handle);
  if (needsGrad(x, weight, bias, residual)) {
    const needsY = relu && residual !== null && !residualLast;
    const saved = needsY ? [x.handle, mean, rstd, handle] : [x.handle, mean, rstd];
    record(
      y,
      residual ? [x, residual] : [x],
      saved,
      ([savedX, savedMean, savedRstd, savedY], dy, dy2) =>
        native.batchNormBackward(
          savedX,
          savedY ?? null,
          dy,
          dy2,
          weight?.handle ?? null,
          bias?.handle ?? null,
          savedMean,
          savedRstd,
          weight?.requiresGrad ? gradientOf(weight) : null,
          bias?.requiresGrad ? gradientOf(bias) : null,
          residual !== null,
          training,
          relu,
          residualLast,
          momentum,
          eps,
        ),
      true,
    );
  }
  mean.dispose();
  rstd.dispose();
  return y;
}
