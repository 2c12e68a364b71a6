import { batchNorm, type BatchNormOptions, type Tensor } from '../tensor';
import type { Initializer } from './init';
import { Module, type Cost } from './module';
import { atWidth } from './widths';

interface Norm {
  weight: Tensor | null;
  bias: Tensor | null;
  runningMean: Tensor;
  runningVar: Tensor;
}

/**
 * BatchNorm with parameters and running statistics of its own for every width (momentum 0.1, eps 1e-5), because the
 * widths' activations have different means and variances. ReLU and a residual sum are computed in the same pass.
 */
export class SwitchableBatchNorm extends Module {
  private readonly norms: Norm[];

  /**
   * @param channels of every width
   * @param options `weight`: initial γ, default 1 (0 lets a residual block start as the identity); `affine: false`: no
   * γ and β
   */
  constructor(
    init: Initializer,
    private readonly channels: readonly number[],
    private readonly options: { weight?: number; affine?: boolean } = {},
  ) {
    super();
    const { weight = 1, affine = true } = options;
    this.norms = channels.map((c, i) => ({
      weight: affine ? this.addParameter(`bn.${i}.weight`, init.constant([c], weight)) : null,
      bias: affine ? this.addParameter(`bn.${i}.bias`, init.constant([c], 0)) : null,
      runningMean: this.addBuffer(`bn.${i}.running_mean`, init.constant([c], 0)),
      runningVar: this.addBuffer(`bn.${i}.running_var`, init.constant([c], 1)),
    }));
  }

  /** `[relu](bn(x) [+ residual])` for x of [N, channels[i], H, W] or [N, channels[i]]. */
  forward(
    x: Tensor,
    widthIndex: number,
    fused: Pick<BatchNormOptions, 'relu' | 'residual' | 'residualLast'> = {},
  ): Tensor {
    return batchNorm(x, atWidth('batch-norm', this.norms, widthIndex), { training: this.training, ...fused });
  }

  cost(widthIndex: number): Cost {
    const channels = atWidth('batch-norm', this.channels, widthIndex);
    return { parameters: this.options.affine === false ? 0 : 2 * channels, macs: 0 };
  }
}
