import { keep, tensor, updateScale, type Device, type ScaleRule, type Tensor } from '../tensor';
import type { Optimizer } from './optimizer';

/** Defaults: growth 2, backoff 0.5, interval 2,000. */
export interface LossScalerOptions extends Partial<ScaleRule> {
  /** First scale. Default 65,536. */
  scale?: number;
  device?: Device;
}

/**
 * Dynamic loss scaling for float16, whose smallest numbers are 6e-8: the loss is multiplied by a scale, its gradients
 * divided by it. Where they overflow, the optimizer's step is skipped and the scale halved. It all stays on the device,
 * as PyTorch's `GradScaler` computes it.
 * Micikevicius et al., "Mixed Precision Training", ICLR 2018.
 */
export class LossScaler {
  /** What the loss is multiplied by, float32 [1]. */
  readonly scale: Tensor;
  private readonly goodSteps: Tensor;
  private readonly rule: ScaleRule;
  private found: Tensor | null = null;

  /** @throws RangeError naming the option that is out of range */
  constructor(options: LossScalerOptions = {}) {
    const { scale = 65_536, growth = 2, backoff = 0.5, interval = 2000, device } = options;
    if (!(scale > 0 && scale <= 2 ** 60)) {
      throw new RangeError(`[loss-scaler] expected scale in (0, 2^60], received ${scale}`);
    }
    this.rule = { growth, backoff, interval };
    this.scale = keep(tensor([scale], [1], { device }));
    this.goodSteps = keep(tensor([0], [1], { dtype: 'int64', device }));
  }

  /** What the next step depends on. */
  get state(): ReadonlyMap<string, Tensor> {
    return new Map([
      ['scale', this.scale],
      ['good_steps', this.goodSteps],
    ]);
  }

  /** Divides the gradients of the scaled loss by the scale; to be called before they are clipped, and before {@link step}. */
  unscale(optimizer: Optimizer): void {
    this.found = optimizer.unscaleGradients(this.scale);
  }

  /** The optimizer's step, unless a gradient was not finite; then the scale of the next. */
  step(optimizer: Optimizer): void {
    const { found } = this;
    if (!found) throw new Error('[loss-scaler] expected unscale() before step()');
    this.found = null;
    optimizer.step(found);
    updateScale(this.scale, this.goodSteps, found, this.rule);
  }

  dispose(): void {
    this.scale.dispose();
    this.goodSteps.dispose();
  }
}
