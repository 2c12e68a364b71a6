import { readFileSync } from 'node:fs';

/** A field of a protobuf message. */
type Field = { number: number; value: number | Buffer };

export interface ReadEvent {
  time: number;
  step: number;
  /** `brain.Event:2` in a file's first event. */
  version?: string;
  /** Whether it says that what was read before, from this step on, is void. */
  start: boolean;
  scalars: Record<string, number>;
}

/** CRC-32C bit by bit (RFC 3720, section 12.1: polynomial 0x11edc6f41, reflected). */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffffn;
  for (const byte of bytes) {
    crc ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = (crc >> 1n) ^ (crc & 1n ? 0x82f63b78n : 0n);
  }
  return Number(crc ^ 0xffffffffn);
}

/** Rotated right by 15 bits, plus a constant. */
function masked(crc: number): number {
  const bits = crc.toString(2).padStart(32, '0');
  return (parseInt(bits.slice(17) + bits.slice(0, 17), 2) + 0xa282ead8) % 2 ** 32;
}

/** The events of a file; every checksum is looked at. */
export function readEvents(file: string): ReadEvent[] {
  const all = readFileSync(file);
  const events: ReadEvent[] = [];
  for (let at = 0; at < all.length;) {
    const length = Number(all.readBigUInt64LE(at));
    const data = all.subarray(at + 12, at + 12 + length);
    if (all.readUInt32LE(at + 8) !== masked(crc32c(all.subarray(at, at + 8)))) throw new Error(`length at ${at}`);
    if (all.readUInt32LE(at + 12 + length) !== masked(crc32c(data))) throw new Error(`data at ${at}`);
    events.push(decode(data));
    at += 16 + length;
  }
  return events;
}

function decode(data: Buffer): ReadEvent {
  const event: ReadEvent = { time: NaN, step: NaN, start: false, scalars: {} };
  for (const { number, value } of fields(data)) {
    if (number === 1) event.time = (value as Buffer).readDoubleLE();
    else if (number === 2) event.step = value as number;
    else if (number === 3) event.version = value.toString();
    else if (number === 7) event.start = fields(value as Buffer).some((f) => f.number === 1 && f.value === 1);
    else if (number === 5) {
      for (const summary of fields(value as Buffer)) {
        const [tag, scalar] = fields(summary.value as Buffer).map((f) => f.value as Buffer);
        event.scalars[tag.toString()] = scalar.readFloatLE();
      }
    } else throw new Error(`field ${number}`);
  }
  return event;
}

function fields(message: Buffer): Field[] {
  const found: Field[] = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = message[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const key = varint();
    const [number, type] = [key >> 3, key & 7];
    if (type === 0) {
      found.push({ number, value: varint() });
      continue;
    }
    const length = type === 1 ? 8 : type === 5 ? 4 : type === 2 ? varint() : NaN;
    if (!(at + length <= message.length)) throw new Error(`field ${number} of wire type ${type}`);
    found.push({ number, value: message.subarray(at, (at += length)) });
  }
  return found;
}
