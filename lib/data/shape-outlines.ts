/**
 * The outlines of the generated shapes as signed distances: negative inside, in units of about half the shape's extent.
 */

/** Signed distance of the point (x, y); y points down. */
export type Outline = (x: number, y: number) => number;

/** Math.hypot's care for overflow costs ten times as much. */
const length = (x: number, y: number): number => Math.sqrt(x * x + y * y);

/** Exact distance to a polygon given as x, y, x, y, … (even-odd where it crosses itself). */
function polygon(...points: number[]): Outline {
  const corners = Float64Array.from(points);
  const n = corners.length;
  return (x, y) => {
    let nearest = Infinity;
    let inside = false;
    for (let i = 0, j = n - 2; i < n; j = i, i += 2) {
      const ax = corners[i];
      const ay = corners[i + 1];
      const bx = corners[j];
      const by = corners[j + 1];
      const ex = bx - ax;
      const ey = by - ay;
      const wx = x - ax;
      const wy = y - ay;
      const t = Math.min(1, Math.max(0, (wx * ex + wy * ey) / (ex * ex + ey * ey)));
      const dx = wx - ex * t;
      const dy = wy - ey * t;
      nearest = Math.min(nearest, dx * dx + dy * dy);
      if (ay > y !== by > y && x < ax + ((y - ay) / ey) * ex) inside = !inside;
    }
    return inside ? -Math.sqrt(nearest) : Math.sqrt(nearest);
  };
}

/** Corners on one circle or, for a star, on two circles in turn. */
function radial(corners: number, ...radii: number[]): Outline {
  const points: number[] = [];
  for (let i = 0; i < corners; i++) {
    const radius = radii[i % radii.length];
    const angle = (2 * Math.PI * i) / corners - Math.PI / 2;
    points.push(radius * Math.cos(angle), radius * Math.sin(angle));
  }
  return polygon(...points);
}

function box(x: number, y: number, halfWidth: number, halfHeight: number): number {
  const dx = Math.abs(x) - halfWidth;
  const dy = Math.abs(y) - halfHeight;
  return length(Math.max(dx, 0), Math.max(dy, 0)) + Math.min(Math.max(dx, dy), 0);
}

/** A square on its corner with two half discs on its upper sides. */
function heart(x: number, y: number): number {
  const unit = 0.62;
  const px = Math.abs(x) * unit;
  const py = 0.58 - y * unit; // from 0 at the tip to about 1.1 at the top
  if (px + py > 1) return (length(px - 0.25, py - 0.75) - Math.SQRT2 / 4) / unit;
  const along = 0.5 * Math.max(px + py, 0);
  const nearest = Math.min(length(px, py - 1), length(px - along, py - along));
  return (nearest * Math.sign(px - py)) / unit;
}

/** Every class of shape, by name. */
export const OUTLINES: Readonly<Record<string, Outline>> = {
  circle: (x, y) => length(x, y) - 0.85,
  square: (x, y) => box(x, y, 0.72, 0.72),
  triangle: radial(3, 1),
  star: radial(10, 1, 0.42),
  cross: (x, y) => Math.min(box(x, y, 0.95, 0.27), box(x, y, 0.27, 0.95)),
  ring: (x, y) => Math.abs(length(x, y) - 0.72) - 0.2,
  crescent: (x, y) => Math.max(length(x, y) - 0.92, 0.74 - length(x - 0.45, y)),
  heart,
  arrow: polygon(0, -1, 0.75, -0.1, 0.27, -0.1, 0.27, 0.95, -0.27, 0.95, -0.27, -0.1, -0.75, -0.1),
  bars: (x, y) => box(Math.abs(x) - 0.52, y, 0.24, 0.85),
  hourglass: polygon(-0.7, -0.85, 0.7, -0.85, -0.7, 0.85, 0.7, 0.85),
  hexagon: radial(6, 0.92),
};
