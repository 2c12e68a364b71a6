import { clipGradNorm, fill, keep, rescale, tensor, unscale, zeros, type Tensor } from '../tensor';

/** A parameter with the gradient that the last backward passes left. */
export interface Trained {
  name: string;
  parameter: Tensor;
  gradient: Tensor;
}

/** What the optimizers share: parameters, their gradients, the learning rate on the device and a state to be saved. */
export abstract class Optimizer {
  /** Learning rate [1] on the device; {@link setLearningRate} writes it before a step. */
  readonly lr: Tensor;
  private hasRate = false;
  private readonly buffers = new Map<string, Tensor>();

  /** @param name of the optimizer, for errors */
  protected constructor(
    private readonly name: string,
    protected readonly parameters: ReadonlyMap<string, Tensor>,
  ) {
    const [first] = parameters.values();
    if (!first) throw new RangeError(`[${name}] expected parameters, received none`);
    this.lr = keep(tensor([0], [1], { device: first.device }));
  }

  /** What the next step depends on besides the parameters, by stable names: `momentum.layer1.0.conv1.weight`. */
  get state(): ReadonlyMap<string, Tensor> {
    return this.buffers;
  }

  /** Of the steps from now on; there is none before. */
  setLearningRate(lr: number): void {
    checkNotNegative(this.name, { 'a learning rate': lr });
    this.lr.copyFrom([lr]);
    this.hasRate = true;
  }

  /**
   * Updates the parameters that have a gradient. Others (BatchNorms of sub-networks that have not run yet) stay as they
   * are, without weight decay.
   * @param skip float32 of one element: unless it is 0, nothing is done. Default: the step is done
   * @throws Error without a learning rate
   */
  step(skip?: Tensor): void {
    if (!this.hasRate) throw new Error(`[${this.name}] a step needs a learning rate; call setLearningRate() before`);
    this.update(this.trained(), skip);
  }

  /** Sets all gradients to zero, before the backward pass of the next step. */
  zeroGrad(): void {
    fill(this.gradients(), 0);
  }

  /** Multiplies all gradients, such as by 1/n after n micro-batches whose losses are means. */
  scaleGradients(factor: number): void {
    rescale(this.gradients(), factor);
  }

  /**
   * Shortens all gradients together to at most this norm, as PyTorch's `clip_grad_norm_`; on the device.
   * @returns their norm before, float32 [1]
   */
  clipGradNorm(maxNorm: number): Tensor {
    return clipGradNorm(this.gradients(), maxNorm);
  }

  /**
   * Divides all gradients by the factor that the loss was scaled by, float32 of one element.
   * @returns 1 where one is not finite, else 0: float32 [1]
   */
  unscaleGradients(scale: Tensor): Tensor {
    return unscale(this.gradients(), scale);
  }

  dispose(): void {
    this.lr.dispose();
    for (const buffer of this.buffers.values()) buffer.dispose();
  }

  protected abstract update(trained: readonly Trained[], skip?: Tensor): void;

  /** Makes the zeros that {@link state} holds as `kind.PARAMETER`, of the parameter's shape unless one is given. */
  protected makeState(kind: string, shape?: readonly number[]): void {
    for (const [name, p] of this.parameters) {
      this.buffers.set(`${kind}.${name}`, keep(zeros(shape ?? p.shape, { device: p.device })));
    }
  }

  protected stateOf(kind: string, trained: readonly Trained[]): Tensor[] {
    return trained.map(({ name }) => this.buffers.get(`${kind}.${name}`)!);
  }

  private trained(): Trained[] {
    return [...this.parameters].flatMap(([name, parameter]) =>
      parameter.grad ? [{ name, parameter, gradient: parameter.grad }] : [],
    );
  }

  private gradients(): Tensor[] {
    return this.trained().map((t) => t.gradient);
  }
}

/** @throws RangeError naming the optimizer and the option that is not finite or negative */
export function checkNotNegative(optimizer: string, options: Record<string, number>): void {
  for (const [name, value] of Object.entries(options)) {
    if (!(value >= 0 && value < Infinity)) {
      throw new RangeError(`[${optimizer}] expected ${name} >= 0, received ${value}`);
    }
  }
}

/** Weight decay of each parameter: none for biases and BatchNorm's γ and β where these are spared. */
export function decays(trained: readonly Trained[], weightDecay: number, decayOneDimensional: boolean): number[] {
  return trained.map(({ parameter }) => (decayOneDimensional || parameter.shape.length > 1 ? weightDecay : 0));
}
