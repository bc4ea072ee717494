import { useEffect, useRef, useState } from "preact/hooks";
import type { Galaxy } from "./api";
import { LookControls, Starts } from "./controls";
import { Details } from "./details";
import { drawn, Grid, lookFrom, type Look } from "./grid";
import { useFetched, useMapKey, useShared } from "./hooks";
import { askOf, changed, go, lookOf, type Place } from "./place";

interface Listed {
  galaxies: Galaxy[];
  total: number;
}

/** Look-alikes of examples, or a list to start from. */
export function Search({ params }: Place) {
  const { progress, keys } = useShared();
  const look = lookFrom(params);
  const path = `api/galaxies?${askOf(params)}`;
  const { value, error, busy, of } = useFetched<Listed>(path, progress?.version);
  // The heading changes together with the list.
  const listed = useRef(params);
  if (of === path) listed.current = params;
  const like = params.getAll("like");
  const unlike = params.getAll("unlike");
  const [hovered, setHovered] = useState<string | null>(null);
  const [main] = like;
  useEffect(() => setHovered(null), [path]);
  useMapKey("search", params);
  const pick = (galaxy: Galaxy, event: MouseEvent) => {
    const look = lookOf(params);
    if (event.shiftKey || event.altKey) {
      const [kind, examples] = event.shiftKey ? (["like", like] as const) : (["unlike", unlike] as const);
      if (kind === "unlike" && !like.length && !params.has("upload")) return;
      const upload = params.getAll("upload");
      go("search", changed(look, { start: "similar", like, unlike, upload, [kind]: [...examples, galaxy.id] }));
    } else {
      go("search", changed(look, { start: "similar", like: galaxy.id }));
    }
  };
  const shownId = hovered ?? main ?? value?.galaxies[0]?.id ?? null;
  return (
    <div class="view">
      <Starts params={params} />
      <LookControls tab="search" params={params} withWeight={params.get("start") === "similar"} />
      <div class="columns-of-view">
        <Details id={shownId} look={look} listed={value?.galaxies}>
          <Examples params={params} look={look} />
        </Details>
        <section class={busy ? "list busy" : "list"}>
          <p class="heading">{headingOf(listed.current, value, error, keys)}</p>
          {value && <Grid galaxies={value.galaxies} look={look} onPick={pick} onHover={(galaxy) => setHovered(galaxy.id)} />}
        </section>
      </div>
    </div>
  );
}

function headingOf(
  params: URLSearchParams,
  listed: Listed | null,
  error: Error | null,
  keys: Map<string, string>,
): preact.ComponentChildren {
  if (error) return <span class="fault">{error.message}</span>;
  const label = params.get("label");
  if (!listed) return " ";
  if (params.get("start") === "labels" && !listed.total) return `no galaxy is judged${label ? ` as ${label}` : " yet"}`;
  const total = listed.total.toLocaleString("en");
  const n = listed.galaxies.length;
  const letters = [...keys.keys()].filter((key) => /[a-z]/.test(key));
  const hint = `click: look-alikes; shift-click: also like this; alt-click: unlike this; ${letters.join(", ")}: judge it; z: undo`;
  const distance = params.get("distance");
  const names: Record<string, string> = {
    similar: `the ${n} most similar of ${total} galaxies`,
    ranking: `the first ${n} of ${total} galaxies`,
    unusual: `the ${n} most unusual of ${total} galaxies`,
    random: `${n} of ${total} galaxies, at random`,
    labels: `${n} of ${total} judged galaxies${label ? `, ${label}` : ""}`,
    rank: `the ${n} most likely of ${total} galaxies`,
    lasso: `${n} of ${total} selected galaxies`,
  };
  return (
    <>
      {names[params.get("start") ?? "ranking"]}
      {distance && `; the example is ${angleOf(Number(distance))} from the position`} <em>{hint}</em>
    </>
  );
}

function angleOf(arcsec: number): string {
  return arcsec < 3600 ? `${arcsec.toFixed(2)} arcsec` : `${(arcsec / 3600).toFixed(1)} degrees`;
}

/** The examples and counter-examples of the search; a click takes one out. */
function Examples({ params, look }: { params: URLSearchParams; look: Look }) {
  const { meta } = useShared();
  const uploads = params.getAll("upload");
  const named = (["like", "unlike"] as const).flatMap((kind) => params.getAll(kind).map((id) => ({ kind, id })));
  if (named.length + uploads.length === 0) return null;
  const without = (kind: string, id: string) => {
    const left = changed(params, { [kind]: params.getAll(kind).filter((one) => one !== id), distance: null });
    const isSearch = left.has("like") || left.has("upload");
    go("search", isSearch ? left : changed(lookOf(params), { start: "ranking" }));
  };
  return (
    <div class="examples">
      {uploads.map((digest) => (
        <button key={digest} class="example like" title="Your file. Click to take it out." onClick={() => without("upload", digest)}>
          <img src={`api/upload.png?v=${meta.digest}&upload=${digest}&${drawn(look)}`} alt="your file" />
        </button>
      ))}
      {named.map(({ kind, id }) => (
        <button key={kind + id} class={`example ${kind}`} title={`${kind} ${id}. Click to take it out.`} onClick={() => without(kind, id)}>
          <img src={`api/image.png?v=${meta.digest}&${drawn(look)}&id=${id}`} alt={`${kind} ${id}`} />
        </button>
      ))}
    </div>
  );
}
