import { PRECISIONS } from '../nn';
import { cudaStatus, memoryStats, setNumThreads, unsupported, type Device } from '../tensor';
import type { RunConfig } from './config';

/**
 * The device that a setting means; `auto` is the first CUDA device where there is one, else the CPU.
 * @returns the device and, where `auto` took the CPU, why
 * @throws Error where the device that was asked for cannot be used, or not in this precision
 */
export function prepareDevice(settings: Pick<RunConfig, 'device' | 'threads' | 'precision'>): {
  device: Device;
  why?: string;
} {
  const { device: name, threads, precision } = settings;
  const chosen = name === 'auto' ? automatic() : { device: name === 'cuda' ? 'cuda:0' : name };
  memoryStats(chosen.device); // throws where there is no such device, saying why
  if (threads > 0) setNumThreads(threads);
  const problem = unsupported(PRECISIONS[precision], chosen.device);
  if (problem) {
    const other = precision === 'fp16' ? 'bf16' : 'fp32';
    throw new Error(`[device] ${chosen.device} cannot compute in ${precision}: ${problem}; use --precision ${other}`);
  }
  return chosen;
}

function automatic(): { device: Device; why?: string } {
  try {
    memoryStats('cuda:0');
    return { device: 'cuda:0' };
  } catch {
    return { device: 'cpu', why: cudaStatus() };
  }
}
