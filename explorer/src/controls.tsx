import { useState } from "preact/hooks";
import { get, post } from "./api";
import { useSending, useShared } from "./hooks";
import { askOf, changed, go, lookOf, type Tab } from "./place";

interface Props {
  tab: Tab;
  params: URLSearchParams;
}

/** The row of starting points of a search. */
export function Starts({ params }: { params: URLSearchParams }) {
  const { meta, fail } = useShared();
  const [text, setText] = useState("");
  const [busy, setBusy] = useState(false);
  const look = lookOf(params);
  const start = (changes: Record<string, string>) => go("search", changed(look, changes));
  const find = async (event: Event) => {
    event.preventDefault();
    try {
      const place = await get<{ id: string; distance_arcsec: number | null }>(`api/locate?text=${encodeURIComponent(text)}`);
      const changes: Record<string, string> = { start: "similar", like: place.id };
      if (place.distance_arcsec !== null) changes.distance = place.distance_arcsec.toFixed(2);
      start(changes);
    } catch (error) {
      fail(error);
    }
  };
  const upload = async (event: Event) => {
    const input = event.currentTarget as HTMLInputElement;
    const file = input.files?.[0];
    if (!file) return;
    setBusy(true);
    try {
      const { upload } = await post<{ upload: string }>("api/upload", file);
      start({ start: "similar", upload });
    } catch (error) {
      fail(error);
    } finally {
      setBusy(false);
      input.value = "";
    }
  };
  const now = params.get("start") ?? "ranking";
  return (
    <div class="bar">
      <form onSubmit={find}>
        <input
          class="find"
          name="find"
          required
          placeholder="object_id or position"
          aria-label="object_id or position"
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <button type="submit">Find</button>
      </form>
      <button class={now === "ranking" ? "on" : ""} onClick={() => start({ start: "ranking" })}>
        {meta.has_scores ? "Most debris" : "Catalog"}
      </button>
      <button class={now === "unusual" ? "on" : ""} onClick={() => start({ start: "unusual" })}>
        Most unusual
      </button>
      <button
        class={now === "random" ? "on" : ""}
        onClick={() => start({ start: "random", seed: String(Math.floor(Math.random() * 2 ** 31)) })}
      >
        Random
      </button>
      <button class={now === "labels" ? "on" : ""} onClick={() => start({ start: "labels", k: "1000" })}>
        Judged
      </button>
      <label class={`file ${busy ? "busy" : ""}`}>
        {busy ? "Reading …" : "FITS file …"}
        <input type="file" name="upload" accept=".fits,.fit,.fz,.gz" onChange={upload} disabled={busy} />
      </label>
    </div>
  );
}

/** How pictures are drawn, how many, and the export of the list. */
export function LookControls({ tab, params, withWeight = false }: Props & { withWeight?: boolean }) {
  const { meta } = useShared();
  const send = useSending();
  const set = (name: string, value: string | string[] | null) => go(tab, changed(params, { [name]: value }), true);
  const ask = askOf(params).toString();
  const composites = [[], ...meta.bands.map((band) => [band])];
  return (
    <div class="bar look">
      <label title="A larger value brightens faint light">
        stretch
        <input
          type="range"
          min="-2"
          max="3"
          step="0.25"
          value={Math.log2(Number(params.get("stretch") ?? 1))}
          onChange={(event) => set("stretch", (2 ** Number(event.currentTarget.value)).toFixed(2))}
        />
      </label>
      <label>
        bands
        <select
          value={params.getAll("bands").join("")}
          onChange={(event) => set("bands", event.currentTarget.value ? [event.currentTarget.value] : null)}
        >
          {composites.map((bands) => (
            <option key={bands.join("")} value={bands.join("")}>
              {bands.join("") || "colour"}
            </option>
          ))}
        </select>
      </label>
      {meta.has_maps && (
        <button class={params.has("map") ? "on" : ""} onClick={() => set("map", params.has("map") ? null : "1")} title="Key: m">
          Debris map
        </button>
      )}
      {withWeight && (
        <label title="Weight of the debris score in a search; 0 for plain look-alikes">
          debris
          <input
            type="range"
            min="0"
            max={4 * (meta.debris_weight || 1)}
            step={(meta.debris_weight || 1) / 4}
            value={params.get("debris_weight") ?? meta.debris_weight}
            onChange={(event) => set("debris_weight", event.currentTarget.value)}
          />
        </label>
      )}
      <label>
        show
        <select value={params.get("k") ?? "48"} onChange={(event) => set("k", event.currentTarget.value)}>
          {["24", "48", "96", "192", "480", "1000"].map((k) => (
            <option key={k}>{k}</option>
          ))}
        </select>
      </label>
      <span class="export">
        export
        {["csv", "fits", "vot", "reg"].map((kind) => (
          <a key={kind} href={`api/export.${kind}?${ask}`} download>
            {kind}
          </a>
        ))}
        <button onClick={() => void send(`table?${ask}`)} title="Send this list to TOPCAT, Aladin or DS9 through their SAMP hub">
          TOPCAT
        </button>
      </span>
      <button onClick={() => go("judge", changed(params, { start: params.get("start") ?? "ranking" }))} title="Judge the galaxies of this list one by one">
        Judge this list
      </button>
    </div>
  );
}
