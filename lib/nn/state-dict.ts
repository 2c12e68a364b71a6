import type { Tensor } from '../tensor';

const HOST = {
  float32: { dtype: 'F32', array: Float32Array },
  bfloat16: { dtype: 'F32', array: Float32Array },
  float16: { dtype: 'F32', array: Float32Array },
  int32: { dtype: 'I32', array: Int32Array },
  int64: { dtype: 'I64', array: BigInt64Array },
  uint8: { dtype: 'U8', array: Uint8Array },
} as const;

/** A tensor's values on the host; dtypes are named as in safetensors, so that a state goes to a file as it is. */
export interface HostTensor {
  readonly dtype: (typeof HOST)[keyof typeof HOST]['dtype'];
  readonly shape: readonly number[];
  readonly data: Float32Array | Int32Array | BigInt64Array | Uint8Array;
}

/** What a state is loaded from, such as the tensors of a safetensors file. */
export type StateSource = ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: ArrayBufferView }>;

/** Reads tensors to the host as they stand after all work enqueued so far. */
export async function readState(tensors: ReadonlyMap<string, Tensor>): Promise<Map<string, HostTensor>> {
  const entries = [...tensors].map(async ([name, t]): Promise<[string, HostTensor]> => {
    return [name, { dtype: HOST[t.dtype].dtype, shape: t.shape, data: await t.data() }];
  });
  return new Map(await Promise.all(entries));
}

/** The tensors under names that begin with `prefix`. */
export function underPrefix<T>(prefix: string, tensors: ReadonlyMap<string, T>): Map<string, T> {
  return new Map([...tensors].map(([name, t]) => [prefix + name, t]));
}

// Counted by PyTorch's BatchNorm and read by nobody while its momentum is fixed.
const isIgnored = (name: string) => name.endsWith('num_batches_tracked');

function list(names: readonly string[]): string {
  return names.slice(0, 5).join(', ') + (names.length > 5 ? ` and ${names.length - 5} more` : '');
}

/**
 * Copies values into tensors of the same names and shapes, or into none of them when a name or a shape does not fit.
 * `num_batches_tracked` of released checkpoints is accepted and ignored.
 * @param owner what the tensors belong to, for the error: `SlimmableResNet resnet20`
 * @throws Error that names missing, unexpected and misshapen tensors and says how to mend it
 */
export function loadTensors(owner: string, tensors: ReadonlyMap<string, Tensor>, source: StateSource): void {
  const missing: string[] = [];
  const misshapen: string[] = [];
  const copies: (() => void)[] = [];
  for (const [name, t] of tensors) {
    const s = source.get(name);
    const { array } = HOST[t.dtype];
    if (!s) missing.push(name);
    else if (s.shape.join() !== t.shape.join()) {
      misshapen.push(`${name} expected [${t.shape.join(', ')}], received [${s.shape.join(', ')}]`);
    } else if (!(s.data instanceof array)) {
      misshapen.push(`${name} expected a ${array.name}, received a ${s.data.constructor.name}`);
    } else {
      const { data } = s;
      copies.push(() => t.copyFrom(data));
    }
  }
  const unexpected = [...source.keys()].filter((name) => !tensors.has(name) && !isIgnored(name));
  if (missing.length + unexpected.length + misshapen.length > 0) {
    throw new Error(`[state] ${explain(owner, missing, unexpected, misshapen)}`);
  }
  for (const copy of copies) copy();
}

function explain(owner: string, missing: string[], unexpected: string[], misshapen: string[]): string {
  const lines = [`the tensors do not fit ${owner}`];
  if (missing.length) lines.push(`missing: ${list(missing)}`);
  if (unexpected.length) lines.push(`unexpected: ${list(unexpected)}`);
  if (misshapen.length) lines.push(`of another shape or type: ${list(misshapen)}`);
  const prefix = commonPrefix(missing, unexpected);
  lines.push(
    prefix !== undefined
      ? `strip the prefix "${prefix}" from the names`
      : 'build the network with the architecture, widths, base width and head that the tensors were saved with',
  );
  return lines.join('; ');
}

/** The prefix that all unexpected names carry before a missing one, such as `module.encoder_q.`. */
function commonPrefix(missing: string[], unexpected: string[]): string | undefined {
  const first = unexpected.find((u) => u.endsWith(`.${missing[0]}`));
  const prefix = first?.slice(0, first.length - missing[0].length);
  return prefix !== undefined && unexpected.every((u) => u.startsWith(prefix)) ? prefix : undefined;
}
