import { keep, type Tensor } from '../tensor';
import { loadTensors, type StateSource } from './state-dict';

/** Weights and multiply-accumulates that one image needs at one width. */
export interface Cost {
  parameters: number;
  macs: number;
}

/** What each width uses of a shared weight: the shape of its leading block, by width. */
export type Slices = readonly (readonly number[])[];

export function sumCosts(costs: readonly Cost[]): Cost {
  return costs.reduce((a, b) => ({ parameters: a.parameters + b.parameters, macs: a.macs + b.macs }));
}

/**
 * A part of a network: parameters (trained), buffers (BatchNorm statistics) and other modules, each under a name.
 * Full names join the parts with dots, as the released checkpoints do: `features.0.bn1.bn.2.weight`.
 */
export abstract class Module {
  private readonly ownParameters = new Map<string, Tensor>();
  private readonly ownBuffers = new Map<string, Tensor>();
  private readonly ownSlices = new Map<string, Slices>();
  private readonly children = new Map<string, Module>();
  private isTraining = true;

  /** @param slices of a weight that the widths share */
  protected addParameter(name: string, t: Tensor, slices?: Slices): Tensor {
    if (slices) this.ownSlices.set(name, slices);
    t.requiresGrad = true;
    this.ownParameters.set(name, keep(t));
    return t;
  }

  protected addBuffer(name: string, t: Tensor): Tensor {
    this.ownBuffers.set(name, keep(t));
    return t;
  }

  protected addModule<M extends Module>(name: string, module: M): M {
    this.children.set(name, module);
    return module;
  }

  /** True: BatchNorm uses the batch's statistics and updates its running ones. Modules start in training. */
  get training(): boolean {
    return this.isTraining;
  }

  train(mode = true): this {
    this.isTraining = mode;
    for (const child of this.children.values()) child.train(mode);
    return this;
  }

  eval(): this {
    return this.train(false);
  }

  /** Parameters by full name, in the order of their registration. */
  parameters(): Map<string, Tensor> {
    return this.collect((m) => m.ownParameters);
  }

  /** BatchNorm's running statistics by full name. */
  buffers(): Map<string, Tensor> {
    return this.collect((m) => m.ownBuffers);
  }

  /** The slices of the parameters that the widths share, by full name; others belong to one width. */
  slices(): Map<string, Slices> {
    return this.collect((m) => m.ownSlices);
  }

  /** Parameters and buffers, the tensors themselves and not copies. */
  stateDict(): Map<string, Tensor> {
    return new Map([...this.parameters(), ...this.buffers()]);
  }

  /**
   * Copies values into all parameters and buffers.
   * @throws Error naming missing, unexpected and misshapen tensors; then nothing was changed
   */
  loadStateDict(source: StateSource): void {
    loadTensors(this.describe(), this.stateDict(), source);
  }

  /** Excludes the parameters from gradients, as a momentum encoder's are. */
  freeze(): this {
    for (const p of this.parameters().values()) p.requiresGrad = false;
    return this;
  }

  /** Frees parameters, their gradients and buffers. */
  dispose(): void {
    for (const t of this.stateDict().values()) t.dispose();
  }

  /** What errors call this module. */
  protected describe(): string {
    return this.constructor.name;
  }

  private collect<T>(own: (m: Module) => Map<string, T>): Map<string, T> {
    const all = new Map(own(this));
    for (const [prefix, child] of this.children) {
      for (const [name, value] of child.collect(own)) all.set(`${prefix}.${name}`, value);
    }
    return all;
  }
}
