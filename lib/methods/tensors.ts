import { keep, scope, type Tensor } from '../tensor';

/** Constant tensors that depend on the batch size alone: made where one is first needed, and kept. */
export class PerBatchSize<T extends Readonly<Record<string, Tensor>>> {
  private readonly made = new Map<number, T>();

  constructor(private readonly make: (batch: number) => T) {}

  get(batch: number): T {
    let tensors = this.made.get(batch);
    if (!tensors) {
      tensors = this.make(batch);
      for (const t of Object.values(tensors)) keep(t);
      this.made.set(batch, tensors);
    }
    return tensors;
  }

  dispose(): void {
    for (const tensors of this.made.values()) for (const t of Object.values(tensors)) t.dispose();
    this.made.clear();
  }
}

/** Runs `work`, then gives the tensors that no optimizer trains the values they had before. */
export function rehearse<T>(state: ReadonlyMap<string, Tensor>, work: () => T): T {
  return scope(() => {
    const changed = [...state.values()].filter((t) => !t.requiresGrad);
    const before = changed.map((t) => t.clone());
    try {
      return work();
    } finally {
      changed.forEach((t, i) => t.copyFrom(before[i]));
    }
  });
}
