import { native } from '../native';
import type { NativeTensor } from '../native-addon';
import { keep } from './scope';
import { Tensor } from './tensor';

/**
 * The gradient of one op: from what it saved and the gradient of its output (in two parts where two consumers each
 * gave one and the op takes both) to the gradients of its inputs, null where there is none. It adds to the gradients
 * of parameters itself.
 */
type Gradient = (
  saved: readonly NativeTensor[],
  dy: NativeTensor,
  dy2: NativeTensor | null,
) => readonly (NativeTensor | null)[];

interface Entry {
  output: number;
  inputs: readonly Tensor[];
  saved: readonly NativeTensor[];
  takesTwo: boolean;
  gradient: Gradient;
}

let tape: Entry[] = [];
let produced = new Set<number>();
let gradEnabled = true;
let gradientsLast = false;
/** Of a `backward()` that runs: the gradients so far of what is on its tape, each in parts, by tensor. */
let running: { gradients: Map<number, NativeTensor[]>; onTape: ReadonlySet<number> } | null = null;

export function clearTape(): void {
  for (const entry of tape) for (const handle of entry.saved) handle.dispose();
  tape = [];
  produced = new Set();
}

/** Runs `fn` without recording gradients. */
export function noGrad<T>(fn: () => T): T {
  const before = gradEnabled;
  gradEnabled = false;
  try {
    return fn();
  } finally {
    gradEnabled = before;
  }
}

/** Runs `fn`, where gradients must add to those that there are: ones made within would be zeroed by each replay. */
export function withLastingGradients<T>(fn: () => T): T {
  const before = gradientsLast;
  gradientsLast = true;
  try {
    return fn();
  } finally {
    gradientsLast = before;
  }
}

function firstGradient(make: () => NativeTensor): Tensor {
  if (gradientsLast) {
    throw new Error(
      '[record] a parameter has no gradient yet, and one made in a recording would not last; run the work once before',
    );
  }
  return keep(new Tensor(make()));
}

/** Whether an op on these inputs must be recorded. */
export function needsGrad(...inputs: readonly (Tensor | null)[]): boolean {
  return gradEnabled && inputs.some((t) => t?.requiresGrad);
}

/**
 * Puts an op on the tape.
 *
 * @param output its result; becomes part of autograd
 * @param inputs tensors that `gradient` returns gradients for, in order
 * @param saved what `gradient` needs: it receives handles that outlive the tensors' scopes
 * @param takesTwo whether `gradient` adds up two gradients of the output itself
 */
export function record(
  output: Tensor,
  inputs: readonly Tensor[],
  saved: readonly NativeTensor[],
  gradient: Gradient,
  takesTwo = false,
): void {
  output.requiresGrad = true;
  produced.add(output.id);
  tape.push({ output: output.id, inputs, saved: saved.map((handle) => native.alias(handle)), takesTwo, gradient });
}

/**
 * The gradient that ops add a parameter's share to: zeros of its full size at first. Of a parameter that other ops made,
 * such as a normalised weight, it goes on to what it was made of.
 */
export function gradientOf(parameter: Tensor): NativeTensor {
  if (running?.onTape.has(parameter.id)) {
    const share = native.zeros(parameter.shape, 'float32', parameter.device);
    addPart(running.gradients, parameter.id, share);
    return share;
  }
  parameter.grad ??= firstGradient(() => native.zeros(parameter.shape, 'float32', parameter.device));
  return parameter.grad.handle;
}

/**
 * Computes the gradients of a scalar loss with respect to every leaf that requires one, adds them to the leaves'
 * `.grad`, and frees the tape.
 * @param scale float32 of one element that the gradients are multiplied by. Default: 1
 */
export function backward(loss: Tensor, scale?: Tensor): void {
  if (loss.size !== 1) throw new RangeError(`[backward] expected a scalar loss, received [${loss.shape.join(', ')}]`);
  if (!produced.has(loss.id)) {
    throw new Error(
      '[backward] the loss is not on the tape: it depends on no tensor that requires a gradient, was made under ' +
        'noGrad() or in a scope that has ended, or backward() ran already',
    );
  }
  const one = native.zeros(loss.shape, 'float32', loss.device);
  native.fill([one], 1);
  const first = scale ? native.scale(one, 1, scale.handle) : one;
  if (scale) one.dispose();
  const gradients = new Map<number, NativeTensor[]>([[loss.id, [first]]]);
  const entries = tape;
  const onTape = produced;
  tape = [];
  produced = new Set();
  running = { gradients, onTape };
  try {
    for (let entry = entries.at(-1); entry; entry = entries.at(-1)) {
      propagate(entry, gradients, onTape);
      for (const handle of entry.saved) handle.dispose();
      entries.pop();
    }
  } finally {
    running = null;
    for (const entry of entries) for (const handle of entry.saved) handle.dispose();
    for (const handles of gradients.values()) for (const handle of handles) handle.dispose();
  }
}

function propagate(entry: Entry, gradients: Map<number, NativeTensor[]>, onTape: ReadonlySet<number>): void {
  const dy = gradients.get(entry.output);
  if (!dy) return;
  while (dy.length > (entry.takesTwo ? 2 : 1)) addFirstTwo(dy);
  const results = entry.gradient(entry.saved, dy[0], dy[1] ?? null);
  gradients.delete(entry.output);
  for (const handle of dy) handle.dispose();
  entry.inputs.forEach((input, i) => {
    const gradient = results[i];
    if (!gradient) return;
    if (!input.requiresGrad) gradient.dispose();
    else if (!onTape.has(input.id)) addToLeaf(input, gradient);
    else addPart(gradients, input.id, gradient);
  });
}

function addPart(gradients: Map<number, NativeTensor[]>, id: number, part: NativeTensor): void {
  const parts = gradients.get(id);
  if (parts) parts.push(part);
  else gradients.set(id, [part]);
}

function addFirstTwo(list: NativeTensor[]): void {
  const [a, b] = list.splice(0, 2);
  list.push(native.add(a, b));
  a.dispose();
  b.dispose();
}

function addToLeaf(leaf: Tensor, gradient: NativeTensor): void {
  try {
    if (leaf.grad) native.accumulate(gradient, leaf.grad.handle);
    else leaf.grad = firstGradient(() => native.clone(gradient));
  } finally {
    gradient.dispose();
  }
}
