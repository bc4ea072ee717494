import { useLayoutEffect } from "preact/hooks";
import type { Described, Galaxy } from "./api";
import { drawn, Marks, useLoaded, type Look } from "./grid";
import { useFetched, useSending, useShared } from "./hooks";

interface DetailsProps {
  id: string | null;
  look: Look;
  listed?: Galaxy[]; // the list on the page, whose similarity or probability is shown
  blind?: boolean; // whether to hide what would sway a judgement
  hint?: string; // what to do while no galaxy is shown
  onShown?: (id: string) => void; // called when the image of a galaxy is on the screen, or cannot be loaded
  children?: preact.ComponentChildren;
}

/** The large image of one galaxy, and all that is known of it. The panel keeps its size while it loads. */
export function Details({ id, look, listed = [], blind = false, hint, onShown, children }: DetailsProps) {
  const { progress } = useShared();
  const { value } = useFetched<Described[]>(id ? `api/galaxy?id=${id}` : null, progress?.version);
  const galaxy = id ? value?.[0] : undefined;
  return (
    <aside class="details">
      <Large id={id} look={look} hint={hint} onShown={onShown} />
      {children}
      {galaxy && (
        <div class={galaxy.id === id ? "facts" : "facts stale"}>
          <Facts galaxy={{ ...listed.find((one) => one.id === galaxy.id), ...galaxy }} blind={blind} />
        </div>
      )}
    </aside>
  );
}

export function Large({ id, look, hint, onShown }: Pick<DetailsProps, "id" | "look" | "hint" | "onShown">) {
  const { meta } = useShared();
  const { picture, fault } = useLoaded(id ? `api/image.png?v=${meta.digest}&${drawn(look)}&id=${id}` : null, id);
  const { picture: map } = useLoaded(id && look.map && meta.has_maps ? `api/maps.png?v=${meta.digest}&id=${id}` : null, id);
  const isShown = picture !== null || fault !== null;
  // At once, so that no key is lost between the image and the moment from which labels are taken.
  useLayoutEffect(() => {
    if (id && isShown) onShown?.(id);
  }, [id, isShown]);
  const layers = [
    map && { backgroundImage: `url("${map}")`, backgroundSize: `${meta.sheet_columns * 100}% 100%`, backgroundPosition: "0 0" },
    picture && { backgroundImage: `url("${picture}")`, backgroundSize: "100% 100%" },
  ];
  return (
    <div class="large" data-id={id}>
      {layers[1] && <span style={layers[1]} />}
      {layers[1] && layers[0] && <span style={layers[0]} />}
      {!id && hint && <p class="hint">{hint}</p>}
      {id && !isShown && <p class="hint late">loading …</p>}
      {fault && <p class="fault">{fault.message}</p>}
    </div>
  );
}

function Facts({ galaxy, blind }: { galaxy: Described; blind: boolean }) {
  const own = new Set(["object_id", "ra", "dec", "label"]);
  const send = useSending();
  return (
    <>
      <p class="name">
        <b>{galaxy.id}</b> {!blind && <Marks galaxy={galaxy} />}
      </p>
      <table>
        <tbody>
          <Row name="ra, dec" value={`${galaxy.ra.toFixed(5)}, ${galaxy.dec.toFixed(5)}`} />
          {!blind && galaxy.score !== undefined && (
            <Row name="debris score" value={`${galaxy.score.toFixed(2)} (${galaxy.percentile?.toFixed(1)} %)`} />
          )}
          {!blind && galaxy.similarity !== undefined && <Row name="similarity" value={galaxy.similarity.toFixed(3)} />}
          {!blind && typeof galaxy.probability === "number" && <Row name="probability" value={galaxy.probability.toFixed(3)} />}
          {!blind && galaxy.label && <Row name="catalog label" value={galaxy.label} />}
          {!blind && Object.entries(galaxy.marks).map(([who, label]) => (
            <Row key={who} name={`judged by ${who}`} value={label} />
          ))}
        </tbody>
      </table>
      <p class="links">
        {Object.entries(galaxy.links).map(([name, address]) => (
          <a key={name} href={address} target="_blank" rel="noreferrer noopener">
            {name}
          </a>
        ))}
        <button onClick={() => void send(`position?id=${galaxy.id}`)} title="Show this position in Aladin or DS9 through their SAMP hub">
          send to Aladin
        </button>
      </p>
      <table class="columns">
        <tbody>
          {Object.entries(blind ? {} : galaxy.columns)
            .filter(([name]) => !own.has(name))
            .map(([name, value]) => (
              <Row key={name} name={name} value={shown(value)} />
            ))}
        </tbody>
      </table>
    </>
  );
}

function Row({ name, value }: { name: string; value: string }) {
  return (
    <tr>
      <th>{name}</th>
      <td>{value}</td>
    </tr>
  );
}

function shown(value: unknown): string {
  if (value === null || value === undefined) return "";
  return typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(6))) : String(value);
}
