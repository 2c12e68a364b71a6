/**
 * Scalars in the files that TensorBoard reads: TFRecords
 * (https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details), each an `Event` of
 * tensorboard/compat/proto/event.proto in protobuf's wire format (https://protobuf.dev/programming-guides/encoding/).
 */
import { readdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { AppendFile } from './append-file';

/** Numbers of one training step. */
export interface ScalarEvent {
  step: number;
  /** Seconds since 1970. */
  time: number;
  /** By tag; tags with the same part before the first `/` are shown in one group. */
  scalars: Readonly<Record<string, number>>;
}

export class EventFileWriter {
  private constructor(private readonly output: AppendFile) {}

  /**
   * Starts a file of `folder` with these events, and removes those that stood there before. A running TensorBoard goes
   * over to the new file, which has a later name, and forgets what it has read; with `--load_fast=false` (the reader in
   * Python, which stays at the file that is gone) only after a restart.
   *
   * @throws WriteError if it could not be written; the former files are then as they were
   */
  static replace(folder: string, events: Iterable<ScalarEvent>): EventFileWriter {
    const former = eventFiles(folder);
    const now = Math.floor(Date.now() / 1000);
    const second = Math.max(now, ...former.map((file) => Number(namePattern.exec(basename(file))![1]) + 1));
    const file = join(folder, `events.out.tfevents.${second}.slimclr`);
    const writer = new EventFileWriter(AppendFile.create(file));
    try {
      writer.append(now, 0, bytes(field.fileVersion, Buffer.from('brain.Event:2')));
      writer.append(now, 0, bytes(field.sessionLog, integer(field.status, sessionStart)));
      for (const event of events) writer.write(event);
    } catch (error) {
      rmSync(file, { force: true });
      writer.close();
      throw error;
    }
    for (const old of former) rmSync(old, { force: true });
    return writer;
  }

  /** @throws WriteError if the event could not be written (disk full); the file then ends with the one before */
  write({ time, step, scalars }: ScalarEvent): void {
    const values = Object.entries(scalars).map(([tag, value]) =>
      bytes(field.value, Buffer.concat([bytes(field.tag, Buffer.from(tag)), float(field.simpleValue, value)])),
    );
    this.append(time, step, bytes(field.summary, Buffer.concat(values)));
  }

  /** Puts what was written on the disk. */
  flush(): void {
    this.output.flush();
  }

  /** Flushes and closes. May be called again. */
  close(): void {
    this.output.close();
  }

  private append(time: number, step: number, what: Buffer): void {
    this.output.append(record(Buffer.concat([double(field.wallTime, time), integer(field.step, step), what])));
  }
}

/** The event files of a folder that an {@link EventFileWriter} made. */
export function eventFiles(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => namePattern.test(name))
    .map((name) => join(folder, name));
}

// TensorBoard looks for `tfevents` and reads in the order of the names, so by the time.
const namePattern = /^events\.out\.tfevents\.(\d+)\.slimclr$/;

/** Numbers of fields: of Event; of Summary (value) and Summary.Value (tag, simple_value); of SessionLog (status). */
const field = {
  wallTime: 1,
  step: 2,
  fileVersion: 3,
  summary: 5,
  sessionLog: 7,
  value: 1,
  tag: 1,
  simpleValue: 2,
  status: 1,
};

/** A status of SessionLog: readers drop all that they have seen from this step on. */
const sessionStart = 1;

const varintType = 0;
const doubleType = 1;
const bytesType = 2;
const floatType = 5;

function varint(value: number): number[] {
  const digits: number[] = [];
  for (; value >= 128; value = Math.floor(value / 128)) digits.push((value % 128) + 128);
  return [...digits, value];
}

function key(number: number, type: number): number[] {
  return varint(number * 8 + type);
}

function integer(number: number, value: number): Buffer {
  return Buffer.from([...key(number, varintType), ...varint(value)]);
}

function bytes(number: number, value: Buffer): Buffer {
  return Buffer.concat([Buffer.from([...key(number, bytesType), ...varint(value.length)]), value]);
}

function float(number: number, value: number): Buffer {
  const encoded = Buffer.from([...key(number, floatType), 0, 0, 0, 0]);
  encoded.writeFloatLE(value, encoded.length - 4);
  return encoded;
}

function double(number: number, value: number): Buffer {
  const encoded = Buffer.from([...key(number, doubleType), 0, 0, 0, 0, 0, 0, 0, 0]);
  encoded.writeDoubleLE(value, encoded.length - 8);
  return encoded;
}

/** A TFRecord: length, its checksum, data, its checksum. */
function record(data: Buffer): Buffer {
  const head = Buffer.alloc(12);
  head.writeBigUInt64LE(BigInt(data.length));
  head.writeUInt32LE(maskedCrc(head.subarray(0, 8)), 8);
  const tail = Buffer.alloc(4);
  tail.writeUInt32LE(maskedCrc(data));
  return Buffer.concat([head, data, tail]);
}

/** CRC-32C (RFC 3720, appendix B.4) in the mask of TFRecords. */
function maskedCrc(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = crcTable[(crc ^ byte) & 255] ^ (crc >>> 8);
  crc = ~crc;
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** What each value of a byte adds, by Castagnoli's polynomial with its bits reversed. */
const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0x82f63b78 : byte >>> 1;
  return byte;
});
