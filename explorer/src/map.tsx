import { useEffect, useRef, useState } from "preact/hooks";
import type { Galaxy } from "./api";
import { get, getBytes } from "./api";
import { LookControls } from "./controls";
import { Details } from "./details";
import { Grid, lookFrom } from "./grid";
import { useFetched, useMapKey, useShared } from "./hooks";
import { askOf, changed, go, lookOf, readPlace, type Place } from "./place";
import { drawPoints, type View } from "./points";

type Point = [number, number];
const WHOLE: View = { x: 0, y: 0, zoom: 1 };
const MOST_ZOOM = 200;
const MILLISECONDS_OF_REST = 300; // before a view is written to the address
const SMALLEST_STEP = 0.004; // of the map's side, between two corners of a selection

/** All galaxies on a plane, look-alikes near each other; a line drawn around some selects them. */
export function MapView({ params }: Place) {
  const { meta, progress, fail } = useShared();
  const by = params.get("by") ?? meta.map_colours[0] ?? "";
  const look = lookFrom(params);
  const polygon = params.getAll("polygon").map(Number);
  const ask = changed(askOf(params), { start: "lasso" });
  const path = polygon.length >= 6 ? `api/galaxies?${ask}` : null;
  const { value, error } = useFetched<{ galaxies: Galaxy[]; total: number }>(path, progress?.version);
  const [hovered, setHovered] = useState<string | null>(null);
  const note = (changes: Record<string, string | null>) => {
    const now = readPlace(location.hash); // it may have changed since the last drawing
    if (now.tab === "map") go("map", changed(now.params, changes), true);
  };
  const select = (polygon: string[]) => go("map", changed(params, { start: "lasso", polygon }));
  const point = ([x, y]: Point) =>
    get<{ id: string }>(`api/map/nearest?x=${x}&y=${y}`)
      .then(({ id }) => {
        setHovered(null);
        note({ at: id });
      })
      .catch(fail);
  useMapKey("map", params);
  return (
    <div class="view">
      <div class="bar">
        <label>
          colour
          <select value={by} onChange={(event) => go("map", changed(params, { by: event.currentTarget.value }), true)}>
            {meta.map_colours.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        <span class="hint">drag: select; click: show a galaxy; wheel: zoom; shift-drag: move</span>
      </div>
      <div class="columns-of-view">
        <Details id={hovered ?? params.get("at") ?? value?.galaxies[0]?.id ?? null} look={look} hint="Click a point to see its galaxy." />
        <section class="list">
          <Plane
            by={by}
            polygon={polygon}
            address={params.get("view")}
            onMove={(view) => note({ view })}
            onSelect={select}
            onPoint={(place) => void point(place)}
          />
          {path && <LookControls tab="map" params={params} />}
          <p class="heading">
            {error ? (
              <span class="fault">{error.message}</span>
            ) : path && value ? (
              `${value.galaxies.length} of ${value.total.toLocaleString("en")} selected galaxies`
            ) : (
              " "
            )}
          </p>
          {path && value && (
            <Grid
              galaxies={value.galaxies}
              look={look}
              onPick={(galaxy) => go("search", changed(lookOf(params), { start: "similar", like: galaxy.id }))}
              onHover={(galaxy) => setHovered(galaxy.id)}
            />
          )}
        </section>
      </div>
    </div>
  );
}

// Decimals of a place in the address: a tenth of a pixel.
const digitsAt = (zoom: number) => 4 + Math.round(Math.log10(zoom));

function addressOf({ x, y, zoom }: View): string | null {
  if (zoom === 1 && x === 0 && y === 0) return null;
  return [x.toFixed(digitsAt(zoom)), y.toFixed(digitsAt(zoom)), zoom.toPrecision(4)].join(" ");
}

function viewOf(address: string | null): View {
  const [x = NaN, y = NaN, zoom = NaN] = (address ?? "").split(" ").map(Number);
  return [x, y, zoom].every(Number.isFinite) ? { x, y, zoom: Math.min(MOST_ZOOM, Math.max(1, zoom)) } : WHOLE;
}

interface PlaneProps {
  by: string;
  polygon: number[];
  address: string | null; // of the part that is shown
  onMove: (address: string | null) => void;
  onSelect: (polygon: string[]) => void;
  onPoint: (place: Point) => void;
}

/** The points, drawn with WebGL; where there is none, a picture of their density from the server. */
function Plane({ by, polygon, address, onMove, onSelect, onPoint }: PlaneProps) {
  const { meta, fail } = useShared();
  const canvas = useRef<HTMLCanvasElement>(null);
  const frame = useRef<HTMLDivElement>(null);
  const draw = useRef<((view: View) => void) | null>(null);
  const [hasWebGL, setHasWebGL] = useState(true);
  const [moved, setView] = useState<View>(() => viewOf(address));
  const view = hasWebGL ? moved : WHOLE;
  const [line, setLine] = useState<Point[]>([]);
  const moving = useRef<Point | null>(null);
  const coloured = `v=${meta.digest}&by=${encodeURIComponent(by)}`;

  useEffect(() => {
    let wanted = true;
    Promise.all([getBytes(`api/map/points?v=${meta.digest}`), getBytes(`api/map/colours?${coloured}`)])
      .then(([places, shades]) => {
        if (!wanted || !canvas.current) return;
        canvas.current.width = canvas.current.clientWidth * devicePixelRatio;
        canvas.current.height = canvas.current.clientHeight * devicePixelRatio;
        draw.current = drawPoints(canvas.current, new Uint16Array(places), new Uint8Array(shades));
        setHasWebGL(draw.current !== null);
        draw.current?.(view);
      })
      .catch(fail);
    return () => {
      wanted = false;
    };
  }, [by]);
  useEffect(() => {
    const request = requestAnimationFrame(() => draw.current?.(view));
    return () => cancelAnimationFrame(request);
  }, [view]);

  const written = useRef(address);
  useEffect(() => {
    if (address !== written.current) setView(viewOf(address)); // by the person, or by going back
    written.current = address;
  }, [address]);
  useEffect(() => {
    const rested = setTimeout(() => {
      if (addressOf(moved) === written.current) return;
      written.current = addressOf(moved);
      onMove(written.current);
    }, MILLISECONDS_OF_REST);
    return () => clearTimeout(rested);
  }, [moved]);

  const placeOf = (event: MouseEvent): Point => {
    const box = frame.current!.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height];
    return [view.x + x / view.zoom, view.y + y / view.zoom];
  };
  const down = (event: PointerEvent) => {
    if (event.button !== 0) return;
    frame.current!.setPointerCapture(event.pointerId);
    if (event.shiftKey) moving.current = placeOf(event);
    else setLine([placeOf(event)]);
  };
  const move = (event: PointerEvent) => {
    const place = placeOf(event);
    if (moving.current) {
      const [x, y] = moving.current;
      if (hasWebGL) setView({ ...view, x: view.x + x - place[0], y: view.y + y - place[1] });
      return;
    }
    const last = line[line.length - 1];
    if (last && Math.hypot(place[0] - last[0], place[1] - last[1]) > SMALLEST_STEP / view.zoom) setLine([...line, place]);
  };
  const up = () => {
    if (line.length > 2) onSelect(line.flat().map((one) => one.toFixed(digitsAt(view.zoom))));
    else if (line[0] && !moving.current) onPoint(line[0]);
    moving.current = null;
    setLine([]);
  };
  const wheel = (event: WheelEvent) => {
    event.preventDefault();
    if (!hasWebGL) return;
    const [x, y] = placeOf(event);
    const zoom = Math.min(MOST_ZOOM, Math.max(1, view.zoom * Math.exp(-event.deltaY / 400)));
    const kept = view.zoom / zoom;
    setView(zoom === 1 ? { x: 0, y: 0, zoom } : { x: x - (x - view.x) * kept, y: y - (y - view.y) * kept, zoom });
  };
  const onScreen = ([x, y]: Point) => `${(x - view.x) * view.zoom * 100},${(1 - (y - view.y) * view.zoom) * 100}`;
  const corners: Point[] = [];
  for (let place = 0; place + 1 < polygon.length; place += 2) corners.push([polygon[place]!, polygon[place + 1]!]);
  return (
    <div
      class={`map ${hasWebGL ? "webgl" : "picture-only"}`}
      ref={frame}
      onPointerDown={down}
      onPointerMove={move}
      onPointerUp={up}
      onWheel={wheel}
    >
      {hasWebGL ? (
        <canvas ref={canvas} />
      ) : (
        <img src={`api/map/density.png?${coloured}`} alt="density of galaxies" draggable={false} />
      )}
      <svg viewBox="0 0 100 100" preserveAspectRatio="none">
        {line.length > 0 ? (
          <polyline points={line.map(onScreen).join(" ")} />
        ) : (
          <polygon points={corners.map(onScreen).join(" ")} />
        )}
      </svg>
    </div>
  );
}
