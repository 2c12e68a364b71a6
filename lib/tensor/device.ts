import { native } from '../native';
import type { DType, MemoryStats } from '../native-addon';
import type { Device } from './tensor';

export type { MemoryStats };

let defaultDevice: Device = 'cpu';

/** Where tensors are made unless told otherwise; throws if the device cannot be used, saying why. */
export function setDefaultDevice(device: Device): void {
  native.memoryStats(device);
  defaultDevice = device === 'cuda' ? 'cuda:0' : device;
}

export function getDefaultDevice(): Device {
  return defaultDevice;
}

/** Resolves when all work enqueued on the device so far is done; rejects with its first error. */
export async function synchronize(device: Device = defaultDevice): Promise<void> {
  await native.synchronize(device);
}

/** What the device's allocator holds. */
export function memoryStats(device: Device = defaultDevice): MemoryStats {
  return native.memoryStats(device);
}

/** Gives cached memory back to the system and restarts the peak count. */
export function trimMemory(device: Device = defaultDevice): void {
  native.trimMemory(device);
}

/** Libraries, instruction sets and threads behind the device. */
export function deviceInfo(device: Device = defaultDevice): Record<string, string> {
  return native.deviceInfo(device);
}

/** Why the device cannot compute in this precision; null where it can. */
export function unsupported(dtype: DType, device: Device = defaultDevice): string | null {
  return native.unsupported(device, dtype);
}

/** The CUDA devices found, or why there are none, in a line. */
export function cudaStatus(): string {
  return native.cudaStatus();
}

/** Threads of the CPU device's ops; default: the number of cores, or SLIMCLR_THREADS. */
export function setNumThreads(threads: number): void {
  native.setNumThreads('cpu', threads);
}

export function getNumThreads(): number {
  return native.numThreads('cpu');
}
