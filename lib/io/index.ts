/**
 * Files: safetensors, checkpoints of torch.save, atomic replacement, the lock of an output folder, metrics as JSON lines and
 * as TensorBoard events.
 */
export {
  readSafetensors,
  readSafetensorsHeader,
  writeSafetensors,
  toFloat32,
  SafetensorsError,
  type Safetensors,
  type SafetensorsArray,
  type SafetensorsDType,
  type SafetensorsHeader,
  type SafetensorsInfo,
  type SafetensorsTensor,
} from './safetensors';
export { readTorchCheckpoint, type TorchCheckpoint } from './torch-checkpoint';
export { TorchFileError } from './torch-source';
export { atomicWrite, checkOutput, WriteError } from './atomic-write';
export { acquireRunLock, RunLockError, LOCK_NAME, type RunLock } from './run-lock';
export { JsonlWriter, readJsonl, JsonlError, type JsonRecord } from './jsonl';
export { EventFileWriter, eventFiles, type ScalarEvent } from './tensorboard';
