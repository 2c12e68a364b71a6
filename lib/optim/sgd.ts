import { sgd, type Tensor } from '../tensor';
import { checkNotNegative, decays, Optimizer, type Trained } from './optimizer';

export interface SGDOptions {
  /** Default 0.9. */
  momentum?: number;
  /** Default 1e-4. */
  weightDecay?: number;
  /**
   * Decay biases and BatchNorm's γ and β as well. Default true: the released training reaches every parameter.
   */
  decayOneDimensional?: boolean;
  /** Default false. */
  nesterov?: boolean;
}

/** SGD with momentum: g += wd·p; μ = momentum·μ + g; p -= lr·μ (Nesterov: p -= lr·(g + momentum·μ)). */
export class SGD extends Optimizer {
  private readonly options: Required<SGDOptions>;

  constructor(parameters: ReadonlyMap<string, Tensor>, options: SGDOptions = {}) {
    const { momentum = 0.9, weightDecay = 1e-4, decayOneDimensional = true, nesterov = false } = options;
    checkNotNegative('sgd', { momentum, weightDecay });
    super('sgd', parameters);
    this.options = { momentum, weightDecay, decayOneDimensional, nesterov };
    this.makeState('momentum');
  }

  protected update(trained: readonly Trained[], skip?: Tensor): void {
    const { momentum, nesterov, weightDecay, decayOneDimensional } = this.options;
    sgd(
      trained.map((t) => t.parameter),
      trained.map((t) => t.gradient),
      this.stateOf('momentum', trained),
      { lr: this.lr, momentum, nesterov, weightDecay: decays(trained, weightDecay, decayOneDimensional), skip },
    );
  }
}
