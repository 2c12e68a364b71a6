import { clearTape } from './tape';
import type { Tensor } from './tensor';

// Scopes nest; they are synchronous, so one stack per JavaScript thread serves.
const scopes: Set<Tensor>[] = [];

/** @internal Called by every new tensor. */
export function registerInScope(tensor: Tensor): void {
  scopes[scopes.length - 1]?.add(tensor);
}

/** Takes a tensor out of all open scopes: it lives until `dispose()`. Returns it. */
export function keep<T extends Tensor>(tensor: T): T {
  for (const scope of scopes) scope.delete(tensor);
  return tensor;
}

/**
 * Runs `fn` and disposes of every tensor made in it, except those that it returns (a tensor, or arrays and plain
 * objects of them; they move to the enclosing scope) and those that `keep()` took out. The outermost scope also ends
 * the autograd tape, so `backward()` belongs inside.
 *
 * @param fn must be synchronous: ops only enqueue work, so there is nothing to wait for inside
 */
export function scope<T>(fn: () => T): T {
  const outermost = scopes.length === 0;
  const made = new Set<Tensor>();
  scopes.push(made);
  if (outermost) clearTape();
  let result: T | undefined;
  try {
    result = fn();
    if (result instanceof Promise) {
      result.catch(() => undefined); // its tensors are gone, so it fails too: this error says why
      throw new TypeError(
        '[scope] expected a synchronous function, received one that returned a promise; await outside',
      );
    }
    return result;
  } finally {
    scopes.pop();
    if (outermost) clearTape();
    const outer = scopes[scopes.length - 1];
    for (const tensor of tensorsIn(result)) {
      if (made.delete(tensor)) outer?.add(tensor);
    }
    for (const tensor of made) tensor.dispose();
  }
}

function* tensorsIn(value: unknown, depth = 0): Generator<Tensor> {
  if (typeof value !== 'object' || value === null || depth > 8) return;
  if ('handle' in value && 'dtype' in value) yield value as Tensor;
  else if (Array.isArray(value)) for (const v of value) yield* tensorsIn(v, depth + 1);
  else if (Object.getPrototypeOf(value) === Object.prototype) {
    for (const v of Object.values(value)) yield* tensorsIn(v, depth + 1);
  }
}
