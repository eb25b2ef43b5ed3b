"""Where how-to clips come from: folders of videos with subtitles, tables, HowTo100M's files."""
