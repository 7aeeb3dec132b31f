//! Opening a Hugging Face folder.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use tensor::Layout;

use super::config::{self, Config};
use super::names::{self, Mapped};
use super::side_files;
use crate::catalogue::{Catalogue, Entry};
use crate::files::DataFile;
use crate::safetensors::{Header, Problem, TensorInfo};
use crate::source::{Source, conflict};
use crate::{BadField, Error, Provenance, SourceKind, requirements};

pub(crate) const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Shards a model may have; V3 and R1 have 163.
const MAX_SHARDS: usize = 1024;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Opens the model in `folder`.
pub(crate) fn open(folder: &Path) -> Result<Source, Error> {
    let config_path = folder.join(CONFIG);
    let json = side_files::small(folder, CONFIG)?;
    let json = json.ok_or(Error::NotAModel { path: folder.into(), found: "a folder without config.json" })?;
    let config: Config =
        config::parse(&json).map_err(|cause| Error::Json { path: config_path.clone(), cause })?;
    // Before the tensors, whose names would be the smaller surprise.
    config.architecture().map_err(BadField::of(&config_path))?;
    let mut shards = Shards::default();
    match side_files::json::<Index>(folder, INDEX)? {
        Some(index) => shards.add_indexed(folder, &index)?,
        None if folder.join(SINGLE).exists() => drop(shards.add(&folder.join(SINGLE))?),
        None => {
            let found = "a folder with config.json, but without model.safetensors or its index";
            return Err(Error::NotAModel { path: folder.into(), found });
        }
    }
    let Shards { mut catalogue, files } = shards;
    catalogue.link_scales().map_err(conflict(folder))?;
    let has_output = catalogue.find("output.weight").is_some();
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut hyper = config.hyperparameters(name, has_output).map_err(BadField::of(&config_path))?;
    requirements::drop_absent_drafts(&mut hyper, &catalogue);
    let source = Source {
        path: folder.into(),
        hyper,
        generation: side_files::generation(folder, CONFIG)?,
        tokenizer: side_files::tokenizer(folder)?,
        chat_template: side_files::chat_template(folder)?,
        licence_text: side_files::licence(folder)?,
        provenance: Provenance::of(SourceKind::Safetensors, &files),
        catalogue,
        files,
        records: None,
    };
    source.check()?;
    Ok(source)
}

/// The shards read so far.
#[derive(Default)]
struct Shards {
    catalogue: Catalogue,
    files: Vec<DataFile>,
}

impl Shards {
    /// Reads all shards an index names, and checks that each holds what the index says.
    fn add_indexed(&mut self, folder: &Path, index: &Index) -> Result<(), Error> {
        let index_path = folder.join(INDEX);
        let names: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
        let bad = |shard: &str, want| {
            Err(BadField::of(&index_path)(BadField::range("weight_map", format!("{shard:?}"), want)))
        };
        if names.len() > MAX_SHARDS {
            return bad(&format!("{} shards", names.len()), "at most 1024 shards");
        }
        let mut found: BTreeMap<String, &str> = BTreeMap::new();
        for shard in names {
            let path = folder.join(shard);
            if Path::new(shard).file_name() != Some(shard.as_ref()) {
                return bad(shard, "the name of a file in the same folder");
            }
            if !path.exists() {
                return Err(Error::MissingPart { path, named_by: index_path });
            }
            found.extend(self.add(&path)?.into_iter().map(|tensor| (tensor, shard)));
        }
        let missing =
            index.weight_map.iter().find(|(tensor, shard)| found.get(*tensor) != Some(&shard.as_str()));
        match missing {
            Some((tensor, shard)) => {
                Err(Error::MissingTensor { path: folder.join(shard), tensor: tensor.clone() })
            }
            None => Ok(()),
        }
    }

    /// Reads one shard's header; returns the published names of its tensors.
    fn add(&mut self, path: &Path) -> Result<Vec<String>, Error> {
        let broken = |problem: Problem| Error::Safetensors { path: path.into(), problem };
        let mut file = DataFile::open(path)?;
        let size = Header::size(&file.head(8)?).map_err(broken)?;
        let head = file.head(size)?;
        let header = Header::parse(&head).map_err(broken)?;
        header.check_data(file.bytes).map_err(broken)?;
        file.set_header(&head);
        let names = header.tensors.iter().map(|info| info.name.clone()).collect();
        for info in header.tensors {
            self.add_tensor(path, info)?;
        }
        self.files.push(file);
        Ok(names)
    }

    fn add_tensor(&mut self, path: &Path, info: TensorInfo) -> Result<(), Error> {
        let name = match names::map(&info.name) {
            Mapped::Name(name) => name,
            Mapped::Ignored => return Ok(()),
            Mapped::Unknown => return Err(Error::UnmappedTensor { path: path.into(), tensor: info.name }),
        };
        let Some(dtype) = info.dtype else {
            let (tensor, dtype) = (info.name, info.dtype_name.into());
            return Err(Error::UnsupportedDtype { path: path.into(), tensor, dtype });
        };
        if info.shape.is_empty() || info.shape.contains(&0) {
            let (tensor, got) = (info.name, info.shape);
            return Err(Error::TensorShape { path: path.into(), tensor, got, want: vec![1] });
        }
        let entry = Entry {
            name,
            published: info.name,
            dtype,
            shape: info.shape,
            layout: Layout::Rows,
            file: self.files.len(),
            offset: info.offset,
            bytes: info.bytes,
            scale: None,
        };
        self.catalogue.add(entry).map_err(conflict(path))
    }
}
