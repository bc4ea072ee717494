import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import { faultOf, type Galaxy } from "./api";
import { useAttempts, useKey, useShared } from "./hooks";

const PER_SHEET = 48;

export interface Look {
  stretch: string;
  bands: string[];
  map: boolean;
}

export function lookFrom(params: URLSearchParams): Look {
  return { stretch: params.get("stretch") ?? "1", bands: params.getAll("bands"), map: params.has("map") };
}

export function drawn(look: Look): string {
  return `stretch=${look.stretch}${look.bands.map((band) => `&bands=${band}`).join("")}`;
}

interface GridProps {
  galaxies: Galaxy[];
  look: Look;
  roles?: Map<string, "like" | "unlike">;
  onPick: (galaxy: Galaxy, event: MouseEvent) => void;
  onHover?: (galaxy: Galaxy) => void;
  onLeave?: (galaxy: Galaxy) => void;
  judging?: boolean; // hide the values, and leave the keys of labels to the view
}

/** Thumbnails in rows, best first, drawn from one picture for every 48 galaxies. */
export function Grid({ galaxies, look, roles, onPick, onHover, judging = false }: GridProps) {
  const { keys, judge, undo, tell } = useShared();
  const [hovered, setHovered] = useState<Galaxy | null>(null);
  const back = async () => {
    const id = await undo();
    if (id && !galaxies.some((galaxy) => galaxy.id === id)) tell(`the label of ${id} is undone`);
  };
  useKey((key) => {
    if (judging) return false;
    const label = keys.get(key);
    const galaxy = galaxies.find((one) => one.id === hovered?.id);
    if (label && galaxy) void judge(galaxy, label);
    else if (key === "z") void back();
    else return false;
    return true;
  });
  const hover = (galaxy: Galaxy) => {
    setHovered(galaxy);
    onHover?.(galaxy);
  };
  const leave = (galaxy: Galaxy) => setHovered((now) => (now?.id === galaxy.id ? null : now));
  const sheets: Galaxy[][] = [];
  for (let first = 0; first < galaxies.length; first += PER_SHEET) sheets.push(galaxies.slice(first, first + PER_SHEET));
  return (
    <div class="grid" onMouseLeave={() => setHovered(null)}>
      {sheets.map((part) => (
        <Sheet key={part[0]?.id} galaxies={part} look={look} roles={roles} judging={judging} onPick={onPick} onHover={hover} onLeave={leave} />
      ))}
    </div>
  );
}

function Sheet({ galaxies, look, roles, judging, onPick, onHover, onLeave }: GridProps) {
  const { meta, fail } = useShared();
  const ids = galaxies.map((galaxy) => `id=${galaxy.id}`).join("&");
  const { picture, fault } = useLoaded(`api/sheet.jpg?v=${meta.digest}&${drawn(look)}&${ids}`, ids);
  const { picture: map, fault: faultOfMap } = useLoaded(
    look.map && meta.has_maps ? `api/maps.png?v=${meta.digest}&${ids}` : null,
    ids,
  );
  useEffect(() => {
    if (fault || faultOfMap) fail(fault || faultOfMap);
  }, [fault, faultOfMap]);
  const columns = meta.sheet_columns;
  const rows = Math.ceil(galaxies.length / columns);
  return (
    <>
      {galaxies.map((galaxy, place) => {
        const x = ((place % columns) / (columns - 1)) * 100;
        const y = rows > 1 ? (Math.floor(place / columns) / (rows - 1)) * 100 : 0;
        const layers = (picture ? [map, picture] : []).filter(Boolean).map((url) => `url("${url}")`);
        const style = {
          backgroundImage: layers.join(", ") || "none",
          backgroundSize: `${columns * 100}% ${rows * 100}%`,
          backgroundPosition: `${x}% ${y}%`,
        };
        return <Tile key={galaxy.id} {...{ galaxy, style, judging, onPick, onHover, onLeave }} role={roles?.get(galaxy.id)} />;
      })}
    </>
  );
}

interface TileProps {
  galaxy: Galaxy;
  style: Record<string, string>;
  role?: string;
  judging?: boolean;
  onPick: GridProps["onPick"];
  onHover?: GridProps["onHover"];
  onLeave?: GridProps["onLeave"];
}

function Tile({ galaxy, style, role, judging, onPick, onHover, onLeave }: TileProps) {
  const value = judging ? undefined : (galaxy.probability ?? galaxy.similarity ?? galaxy.score);
  return (
    <button
      class={`tile ${role ?? ""}`}
      data-id={galaxy.id}
      title={`${galaxy.id}`}
      onClick={(event) => onPick(galaxy, event)}
      onMouseEnter={() => onHover?.(galaxy)}
      onFocus={() => onHover?.(galaxy)}
      onBlur={() => onLeave?.(galaxy)}
    >
      <span class="picture" style={style} />
      <Marks galaxy={galaxy} />
      <span class="caption">
        <b>
          <bdi>{galaxy.id}</bdi>
        </b>
        <span>{value === undefined ? "" : value.toFixed(2)}</span>
      </span>
    </button>
  );
}

/** The labels that people gave, and whether they disagree. */
export function Marks({ galaxy }: { galaxy: Galaxy }) {
  const { meta } = useShared();
  const labels = [...new Set(Object.values(galaxy.marks))];
  if (!labels.length) return null;
  // As on the server, a label that the configuration does not name is neither positive nor negative.
  const sure = labels.filter((label) => label === meta.negative || meta.positives.includes(label));
  const kinds = new Set(sure.map((label) => label !== meta.negative));
  if (kinds.size > 1) return <span class="mark disputed">disagreement</span>;
  const kind = !sure.length ? "unsure" : kinds.has(true) ? "yes" : "no";
  return <span class={`mark ${kind}`}>{labels.join(", ")}</span>;
}

interface Loaded {
  picture: string | null; // the address of the last picture of the subject that is whole
  fault: Error | null; // why there is none
}

const NOTHING: Loaded = { picture: null, fault: null };

/**
 * Load a picture, and return it when it is whole, so that nothing flickers. The one before stays only while another
 * drawing of the same galaxies is on its way.
 */
export function useLoaded(url: string | null, subject: string | null): Loaded {
  const [loaded, setLoaded] = useState<Loaded & { subject: string | null }>({ ...NOTHING, subject: null });
  const attempt = useAttempts(loaded.fault !== null);
  // Before the screen is painted, so that a picture in the browser's memory is shown at once.
  useLayoutEffect(() => {
    if (url === null) {
      setLoaded({ ...NOTHING, subject });
      return;
    }
    const image = new Image();
    let wanted = true;
    const isWhole = () => wanted && setLoaded({ picture: url, fault: null, subject });
    image.onerror = () => void faultOf(url).then((fault) => wanted && setLoaded({ picture: null, fault, subject }));
    image.src = url;
    if (image.complete && image.naturalWidth > 0) isWhole();
    else image.onload = isWhole;
    return () => {
      wanted = false;
    };
  }, [url, subject, attempt]);
  return loaded.subject === subject ? loaded : NOTHING;
}
